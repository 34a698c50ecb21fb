//! `user:` of a service, resolved on this host.

use nix::unistd::{Gid, Group, Uid, User};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("user `{0}` is unknown on this host; make it (`useradd`) or write a number")]
    UnknownUser(String),
    #[error("group `{0}` is unknown on this host; make it (`groupadd`) or write a number")]
    UnknownGroup(String),
    #[error(
        "`user: {asked}` is another user than yours ({own}), and only root can start a service as somebody else; remove `user:` or run sinew as root"
    )]
    NotRoot { asked: String, own: u32 },
    #[error("asking for user `{asked}`: {source}")]
    Lookup { asked: String, source: nix::Error },
}

/// `None`: who runs Sinew. `launcher`: uid and gid of the launcher.
pub fn resolve(user: Option<&str>, launcher: (Uid, Gid)) -> Result<Credentials, UserError> {
    let (own_uid, own_gid) = (launcher.0.as_raw(), launcher.1.as_raw());
    let own = Credentials { uid: own_uid, gid: own_gid, groups: Vec::new() };
    let Some(asked) = user.filter(|user| !user.is_empty()) else { return Ok(own) };
    let (name, group) = match asked.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (asked, None),
    };
    let lookup = |source| UserError::Lookup { asked: asked.to_owned(), source };
    let account = match name.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)).map_err(lookup)?,
        Err(_) => Some(
            User::from_name(name).map_err(lookup)?.ok_or_else(|| UserError::UnknownUser(name.to_owned()))?,
        ),
    };
    let uid = match &account {
        Some(account) => account.uid.as_raw(),
        // A number needs no account.
        None => name.parse().map_err(|_| UserError::UnknownUser(name.to_owned()))?,
    };
    let gid = match group {
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => Group::from_name(group)
                .map_err(lookup)?
                .ok_or_else(|| UserError::UnknownGroup(group.to_owned()))?
                .gid
                .as_raw(),
        },
        // Like Compose: a number without an account gets the group of root.
        None => account.as_ref().map_or(0, |account| account.gid.as_raw()),
    };
    if !launcher.0.is_root() {
        return if uid == own_uid && (gid == own_gid || group.is_none()) {
            Ok(own)
        } else {
            Err(UserError::NotRoot { asked: asked.to_owned(), own: own_uid })
        };
    }
    let groups = match &account {
        Some(account) if group.is_none() => groups_of(account, gid),
        _ => Vec::new(),
    };
    Ok(Credentials { uid, gid, groups })
}

fn groups_of(account: &User, gid: u32) -> Vec<u32> {
    let Ok(name) = std::ffi::CString::new(account.name.as_str()) else { return Vec::new() };
    let groups = nix::unistd::getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default();
    groups.into_iter().map(Gid::as_raw).filter(|group| *group != gid).collect()
}

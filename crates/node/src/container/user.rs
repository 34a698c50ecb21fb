//! Who a container's user is in numbers: its image knows.

use sinew_engine::{Create, Engine, tar};

use super::ContainerError;

/// Of `/etc/passwd` and `/etc/group` in an image.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// uid and gid. A name that the image does not know is the engine's to complain about: it counts as root here.
pub fn of(engine: &Engine, wanted: &Create) -> Result<(u32, u32), ContainerError> {
    let said = match &wanted.user {
        Some(user) => user.clone(),
        None => engine.image(&wanted.image)?.map(|image| image.user).unwrap_or_default(),
    };
    let (user, group) = match said.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (said.as_str(), None),
    };
    if user.is_empty() {
        return Ok((0, 0));
    }
    let read = |path: &str| -> Result<String, ContainerError> {
        let Some(archive) = engine.archive(&wanted.name, path)? else { return Ok(String::new()) };
        let file = tar::first_file(archive, FILE_BYTES_MAX).ok().flatten();
        Ok(file.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default())
    };
    let account = account(&read("/etc/passwd")?, user);
    let uid = user.parse().ok().or(account.map(|(uid, _)| uid)).unwrap_or(0);
    let gid = match group {
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => account_of_group(&read("/etc/group")?, group).unwrap_or(0),
        },
        None => account.map_or(0, |(_, gid)| gid),
    };
    Ok((uid, gid))
}

/// passwd(5): `name:password:uid:gid:…`. By name or by number.
fn account(passwd: &str, user: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else { return None };
        if *name != user && *uid != user {
            return None;
        }
        Some((uid.parse().ok()?, gid.parse().ok()?))
    })
}

/// group(5): `name:password:gid:…`
fn account_of_group(groups: &str, wanted: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != wanted {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nredis:x:999:1000::/:/bin/false\nodd\n";
        assert_eq!(account(passwd, "redis"), Some((999, 1000)));
        assert_eq!(account(passwd, "999"), Some((999, 1000)));
        assert_eq!(account(passwd, "nobody"), None);
        assert_eq!(account_of_group("wheel:x:10:\nredis:x:1000:\n", "redis"), Some(1000));
    }
}

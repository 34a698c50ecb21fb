//! Names that must not mix, as types of their own.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }
    };
}

name_type! {
    /// A service as its callers spell it in a URL: `orders`.
    ServiceName
}
name_type! {
    /// One running copy of a service: `orders-2`. Unique within an application.
    InstanceName
}
name_type! {
    /// The application (Compose: project); it is also the mesh namespace of its services.
    ApplicationName
}
name_type! {
    /// A SPIFFE trust domain, without scheme: `cold-store.sinew`.
    TrustDomain
}

/// Names are labels of host names (RFC 1035, section 2.3.4) and of TLS server names.
pub const NAME_CHARACTERS_MAX: usize = 63;

/// Why something cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("the name has {0} characters; it may have {NAME_CHARACTERS_MAX}")]
    Long(usize),
    #[error("`{name}` contains {character:?}")]
    Character { name: String, character: char },
    #[error("`{name}` contains the upper-case letter `{character}`")]
    UpperCase { name: String, character: char },
    #[error("`{0}` does not begin with a letter or a digit")]
    Begin(String),
    #[error("`{0}` does not end with a letter or a digit")]
    End(String),
}

impl ServiceName {
    /// A name that can be part of a URL: callers write `http://NAME`. Stricter than Compose, which allows upper case
    /// and dots: host names ignore case, and a dot begins another domain.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check(name).map(|()| Self::new(name))
    }
}

impl ApplicationName {
    /// Compose's rule for project names; also one label of a TLS server name.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check(name).map(|()| Self::new(name))
    }
}

/// `[a-z0-9]([a-z0-9_-]*[a-z0-9])?`, at most 63 characters.
fn check(name: &str) -> Result<(), NameError> {
    let shown = || {
        name.chars().take(NAME_CHARACTERS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    };
    let good = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    if let Some(character) =
        name.chars().find(|&character| !good(character) && character != '-' && character != '_')
    {
        return Err(if character.is_ascii_uppercase() {
            NameError::UpperCase { name: shown(), character }
        } else {
            NameError::Character { name: shown(), character }
        });
    }
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_CHARACTERS_MAX {
        return Err(NameError::Long(name.len()));
    }
    if !name.starts_with(good) {
        return Err(NameError::Begin(shown()));
    }
    if !name.ends_with(good) {
        return Err(NameError::End(shown()));
    }
    Ok(())
}

/// Who a workload is: `spiffe://<trust domain>/ns/<namespace>/svc/<service>/inst/<instance>` (SPIFFE ID 1.0, section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpiffeId(String);

impl SpiffeId {
    pub fn of_instance(
        domain: &TrustDomain,
        namespace: &ApplicationName,
        service: &ServiceName,
        instance: &InstanceName,
    ) -> Self {
        Self(format!("spiffe://{domain}/ns/{namespace}/svc/{service}/inst/{instance}"))
    }

    /// What every instance of a service has in common; an ID belongs to the service when it starts with this.
    pub fn service_prefix(
        domain: &TrustDomain,
        namespace: &ApplicationName,
        service: &ServiceName,
    ) -> String {
        format!("spiffe://{domain}/ns/{namespace}/svc/{service}/inst/")
    }

    /// `None` unless it is a SPIFFE ID with a trust domain and a path, at most 2048 bytes (SPIFFE ID 1.0, section 2).
    pub fn parse(uri: &str) -> Option<Self> {
        let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let domain_good = !domain.is_empty()
            && domain
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte));
        let path_good = path.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        });
        (uri.len() <= 2048 && domain_good && path_good).then(|| Self(uri.to_owned()))
    }

    /// The service that this instance belongs to, when the ID is one of that trust domain and namespace.
    pub fn service_within(&self, domain: &TrustDomain, namespace: &ApplicationName) -> Option<&str> {
        let path = self.0.strip_prefix("spiffe://")?.strip_prefix(domain.as_str())?.strip_prefix("/ns/")?;
        let path = path.strip_prefix(namespace.as_str())?.strip_prefix("/svc/")?;
        let (service, instance) = path.split_once("/inst/")?;
        (!service.contains('/') && !instance.is_empty() && !instance.contains('/')).then_some(service)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests;

//! Whether the content of a service's configs and secrets changed since it was started. The file that grants them stays
//! the same then, so they are told apart by digests, keyed with a random value of the application: a digest alone says
//! nothing about a secret, also not about one that could be guessed.

use std::collections::BTreeMap;

use aws_lc_rs::{hmac, rand};
use serde::{Deserialize, Serialize};
use sinew_spec::application::{FileContent, Service};

use crate::beneath::Writable;
use crate::plan;

const KEY_BYTES: usize = 32;

/// Kept in the record of the application, which only its user can read, and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    pub fn random() -> Self {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).expect("a host without random numbers issues no certificates either");
        Self(bytes)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Digests; 0: nothing is granted whose content the file does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub configs: u64,
    pub secrets: u64,
}

impl Contents {
    /// Reads the files. What cannot be read counts as empty: whoever starts an instance says so.
    pub fn of(
        service: &Service,
        environment: &BTreeMap<String, String>,
        writable: &Writable,
        key: &Key,
    ) -> Self {
        let digest = |secret: bool| digest(service, secret, environment, writable, key);
        Self { configs: digest(false), secrets: digest(true) }
    }

    pub fn number(self) -> u64 {
        self.configs ^ self.secrets
    }
}

fn digest(
    service: &Service,
    secret: bool,
    environment: &BTreeMap<String, String>,
    writable: &Writable,
    key: &Key,
) -> u64 {
    let grants = service.files.iter().filter(|grant| grant.secret == secret);
    let mut grants = grants.filter(|grant| !matches!(grant.content, FileContent::Inline(_))).peekable();
    if grants.peek().is_none() {
        return 0;
    }
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key.0));
    context.update(&[u8::from(secret)]);
    for grant in grants {
        let content = plan::content(grant, environment, writable, plan::FILES_BYTES_MAX).unwrap_or_default();
        for part in [grant.target.as_os_str().as_encoded_bytes(), &content] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    let tag = context.sign();
    tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use sinew_spec::application::FileGrant;

    use super::*;

    fn service(secret: bool) -> Service {
        let mut service = Service::new("web", vec!["true".into()]);
        service.files.push(FileGrant {
            name: "key".into(),
            content: FileContent::Environment("KEY".into()),
            target: "/run/secrets/key".into(),
            mode: 0o400,
            uid: None,
            gid: None,
            secret,
        });
        service
    }

    fn contents(service: &Service, value: &str, key: &Key) -> Contents {
        Contents::of(
            service,
            &BTreeMap::from([("KEY".to_owned(), value.to_owned())]),
            &Writable::default(),
            key,
        )
    }

    #[test]
    fn another_content_is_another_number() {
        let key = Key::random();
        let (secret, config) = (service(true), service(false));
        assert_eq!(contents(&secret, "1", &key), contents(&secret, "1", &key));
        assert_ne!(contents(&secret, "1", &key).secrets, contents(&secret, "2", &key).secrets);
        assert_ne!(contents(&config, "1", &key).configs, contents(&secret, "1", &key).secrets);
        assert_eq!(contents(&secret, "1", &key).configs, 0);
    }

    #[test]
    fn who_knows_a_digest_cannot_try_values_without_the_key() {
        let service = service(true);
        assert_ne!(contents(&service, "1", &Key::random()), contents(&service, "1", &Key::random()));
    }

    #[test]
    fn a_service_without_grants_is_what_the_file_says() {
        let service = Service::new("web", vec!["true".into()]);
        assert_eq!(contents(&service, "1", &Key::random()).number(), 0);
    }
}

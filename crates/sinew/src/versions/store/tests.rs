use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

/// An engine and a registry in memory.
#[derive(Default)]
pub struct Fake {
    /// Name or id -> image.
    pub here: RefCell<BTreeMap<String, Here>>,
    /// Reference -> id and digest. `None`: nobody answers.
    pub registry: RefCell<Option<BTreeMap<String, (Digest, Digest)>>>,
    pub pulled: RefCell<Vec<String>>,
}

pub fn digest(digit: char) -> Digest {
    Digest::from_hex(&digit.to_string().repeat(64)).expect("hexadecimal")
}

impl Fake {
    /// What is built or loaded here.
    pub fn make(&self, reference: &str, id: char) {
        let image = Here { id: digest(id), digests: Vec::new() };
        self.here.borrow_mut().insert(reference.to_owned(), image.clone());
        self.here.borrow_mut().insert(digest(id).to_string(), image);
    }

    pub fn push(&self, reference: &str, id: char, in_registry: char) {
        let version = (digest(id), digest(in_registry));
        let by_digest = format!("{}@{}", repository(reference), version.1);
        let mut registry = self.registry.borrow_mut();
        let registry = registry.get_or_insert_default();
        registry.insert(reference.to_owned(), version.clone());
        registry.insert(by_digest, version);
    }

    pub fn forget(&self, id: char) {
        self.here.borrow_mut().retain(|_, here| here.id != digest(id));
    }
}

impl Store for Fake {
    fn find(&self, reference: &str) -> Result<Option<Here>, String> {
        Ok(self.here.borrow().get(reference).cloned())
    }

    fn pull(&self, reference: &str, _: Option<&str>) -> Result<(), String> {
        self.pulled.borrow_mut().push(reference.to_owned());
        let registry = self.registry.borrow();
        let registry = registry.as_ref().ok_or("nobody answers")?;
        let (id, digest) = registry.get(reference).ok_or_else(|| format!("{reference}: unknown"))?;
        let by_digest = format!("{}@{digest}", repository(reference));
        let image = Here { id: id.clone(), digests: vec![by_digest.clone()] };
        for name in [reference, &by_digest, id.as_str()] {
            self.here.borrow_mut().insert(name.to_owned(), image.clone());
        }
        Ok(())
    }

    fn tag(&self, id: &Digest, reference: &str) -> Result<(), String> {
        let image = self.here.borrow().get(id.as_str()).cloned().ok_or("no such image")?;
        self.here.borrow_mut().insert(reference.to_owned(), image);
        Ok(())
    }

    fn remove(&self, reference: &str) -> Result<(), String> {
        self.here.borrow_mut().remove(reference);
        Ok(())
    }

    fn save(&self, id: &Digest) -> Result<Box<dyn Read>, String> {
        Ok(Box::new(std::io::Cursor::new(id.to_string())))
    }

    fn load(&self, archive: &mut dyn Read) -> Result<(), String> {
        let mut text = String::new();
        archive.read_to_string(&mut text).map_err(|error| error.to_string())?;
        let id = Digest::parse(&text).map_err(|error| error.to_string())?;
        self.here.borrow_mut().insert(text, Here { id, digests: Vec::new() });
        Ok(())
    }
}

#[test]
fn a_digest_is_that_of_the_same_repository() {
    let here = |digests: &[(&str, char)]| Here {
        id: digest('a'),
        digests: digests.iter().map(|(name, digit)| format!("{name}@{}", digest(*digit))).collect(),
    };
    let check = |digests: &[(&str, char)], reference: &str, expected: Option<char>| {
        assert_eq!(digest_of(&here(digests), reference), expected.map(digest), "{reference}");
    };
    check(&[("docker.io/library/redis", 'b')], "redis:7", Some('b'));
    check(&[("docker.io/shop/web", 'b')], "shop/web", Some('b'));
    check(&[("localhost:5000/web", 'b')], "localhost:5000/web:1", Some('b'));
    check(&[("other.example/web", 'b')], "localhost:5000/web:1", None);
    check(&[("localhost/web", 'b')], "localhost/web:1", None);
    check(&[("r.example/web", 'd'), ("r.example/web", 'c')], "r.example/web:1", Some('c'));
    check(&[], "redis:7", None);
}

#[test]
fn a_repository_has_neither_tag_nor_digest() {
    for (reference, expected) in [
        ("redis", "redis"),
        ("redis:7", "redis"),
        ("localhost:5000/web", "localhost:5000/web"),
        ("localhost:5000/web:1", "localhost:5000/web"),
        ("r.example/a/b:1@sha256:00", "r.example/a/b"),
    ] {
        assert_eq!(repository(reference), expected);
    }
}

use super::super::store::Store;
use super::super::store::tests::{Fake, digest};
use super::*;

const NOW: &str = "2026-11-21T10:49:45Z";

fn wanted(reference: &str) -> Wanted {
    Wanted { reference: reference.to_owned(), platform: None, pull: Pull::Missing, built: false }
}

struct Bench {
    store: Fake,
    lock: Lock,
}

impl Bench {
    fn new() -> Self {
        Self { store: Fake::default(), lock: Lock::default() }
    }

    /// Resolves, and gives the digits of id and digest, and what is told.
    fn resolve(&mut self, wanted: &Wanted, locked: bool) -> Result<(String, Option<News>), String> {
        let resolved = resolve(wanted, &mut self.lock, &self.store, locked, NOW);
        let resolved = resolved.map_err(|error| error.to_string())?;
        let digit = |digest: &Digest| digest.hex()[..1].to_owned();
        let in_registry = resolved.version.digest.as_ref().map(digit).unwrap_or_default();
        Ok((digit(&resolved.version.id) + &in_registry, resolved.news))
    }

    #[track_caller]
    fn check(&mut self, wanted: &Wanted, version: &str, news: Option<News>) {
        assert_eq!(self.resolve(wanted, false), Ok((version.to_owned(), news)));
    }
}

#[test]
fn a_tag_is_resolved_once() {
    let mut bench = Bench::new();
    let web = wanted("r.example/web:1");
    bench.store.push("r.example/web:1", 'a', 'b');
    bench.check(&web, "ab", Some(News::Recorded));
    bench.check(&web, "ab", None);
    // Another image has the tag now, and the registry cannot be reached.
    bench.store.push("r.example/web:1", 'c', 'd');
    bench.check(&web, "ab", None);
    *bench.store.registry.borrow_mut() = None;
    bench.check(&web, "ab", None);
    assert_eq!(*bench.store.pulled.borrow(), ["r.example/web:1"]);
}

#[test]
fn another_machine_pulls_the_recorded_digest() {
    let mut bench = Bench::new();
    let web = wanted("r.example/web:1");
    bench.store.push("r.example/web:1", 'a', 'b');
    bench.check(&web, "ab", Some(News::Recorded));
    bench.store.push("r.example/web:1", 'c', 'd');
    bench.store.forget('a');
    bench.check(&web, "ab", None);
    assert_eq!(bench.store.pulled.borrow()[1], format!("r.example/web@{}", digest('b')));
    // Gone in the registry too: nothing else is taken in its place.
    bench.store.forget('a');
    bench.store.registry.borrow_mut().as_mut().expect("it answers").clear();
    let error = bench.resolve(&web, false).expect_err("it is nowhere");
    assert_eq!(error, format!("r.example/web@{}: unknown", digest('b')));
}

#[test]
fn a_registry_that_gives_something_else_is_not_believed() {
    let mut bench = Bench::new();
    let web = wanted("r.example/web:1");
    bench.store.push("r.example/web:1", 'a', 'b');
    bench.check(&web, "ab", Some(News::Recorded));
    bench.store.forget('a');
    bench.store.push("r.example/web:1", 'e', 'b');
    let error = bench.resolve(&web, false).expect_err("another image under this digest");
    assert_eq!(
        error,
        "`r.example/web:1` was pulled as bbbbbbbbbbbb, but it is eeeeeeeeeeee, not the aaaaaaaaaaaa of sinew.lock"
    );
}

#[test]
fn what_was_loaded_here_is_recorded_by_id() {
    let mut bench = Bench::new();
    let tool = wanted("tool:1");
    bench.store.make("tool:1", 'a');
    bench.check(&tool, "a", Some(News::Recorded));
    bench.store.make("tool:1", 'b');
    bench.check(&tool, "a", Some(News::Differs { here: digest('b') }));
    bench.store.forget('a');
    let error = bench.resolve(&tool, true).expect_err("locked");
    assert_eq!(
        error,
        "the image aaaaaaaaaaaa of `tool:1` is nowhere any more, and --locked forbids to take another one"
    );
    bench.check(&tool, "b", Some(News::Again { was: digest('a') }));
    bench.check(&tool, "b", None);
}

#[test]
fn a_digest_is_recorded_only_where_the_registry_knows_it() {
    let mut bench = Bench::new();
    let web = wanted("r.example/web:1");
    bench.store.push("r.example/web:1", 'a', 'b');
    bench.store.pull("r.example/web:1", None).expect("it is there");
    bench.check(&web, "ab", Some(News::Recorded));
    // Built here under the registry's name, never pushed: the engine made the digest up.
    let tool = wanted("r.example/tool:1");
    let made_up = Here { id: digest('c'), digests: vec![format!("r.example/tool@{}", digest('d'))] };
    for name in ["r.example/tool:1", digest('c').as_str()] {
        bench.store.here.borrow_mut().insert(name.to_owned(), made_up.clone());
    }
    bench.check(&tool, "c", Some(News::Recorded));
}

#[test]
fn what_a_bundle_brought_is_found_by_its_digest_too() {
    let mut bench = Bench::new();
    let web = wanted(&format!("r.example/web@{}", digest('b')));
    bench.store.make("other", 'a');
    let entry = Locked { id: digest('a'), digest: Some(digest('b')), resolved: NOW.to_owned() };
    bench.lock.insert(web.key(), entry);
    bench.check(&web, "ab", None);
    assert!(bench.store.pulled.borrow().is_empty());
}

#[test]
fn what_is_built_is_what_was_built_last() {
    let mut bench = Bench::new();
    let web = Wanted { built: true, ..wanted("localhost/shop-web:latest") };
    bench.store.make(&web.reference, 'a');
    bench.check(&web, "a", Some(News::Built));
    bench.check(&web, "a", None);
    bench.store.make(&web.reference, 'b');
    bench.check(&web, "b", Some(News::Built));
}

#[test]
fn a_locked_lock_is_not_changed() {
    let mut bench = Bench::new();
    let web = wanted("r.example/web:1");
    bench.store.push("r.example/web:1", 'a', 'b');
    let error = bench.resolve(&web, true).expect_err("not recorded");
    let platform = host_platform();
    assert_eq!(
        error,
        format!(
            "sinew.lock does not say which image `r.example/web:1` is on {platform}, and --locked forbids to add it"
        )
    );
    assert!(bench.lock.is_empty() && bench.store.pulled.borrow().is_empty());
    bench.check(&web, "ab", Some(News::Recorded));
    assert_eq!(bench.resolve(&web, true), Ok(("ab".to_owned(), None)));
}

#[test]
fn a_digest_in_the_file_needs_no_entry() {
    let mut bench = Bench::new();
    bench.store.push("r.example/web:1", 'a', 'b');
    let web = wanted(&format!("r.example/web@{}", digest('b')));
    bench.check(&web, "ab", None);
    assert!(bench.lock.is_empty());
    let missing = wanted(&format!("r.example/web@{}", digest('c')));
    let error = bench.resolve(&missing, false).expect_err("no such digest");
    assert!(error.ends_with(": unknown"), "{error}");
}

#[test]
fn policies_of_pulling() {
    let mut bench = Bench::new();
    let never = Wanted { pull: Pull::Never, ..wanted("r.example/web:1") };
    bench.store.push("r.example/web:1", 'a', 'b');
    let error = bench.resolve(&never, false).expect_err("not here");
    assert_eq!(
        error,
        "the image `r.example/web:1` is not on this host, and `pull_policy: never` forbids to pull it"
    );
    bench.store.make("r.example/web:1", 'c');
    let always = Wanted { pull: Pull::Always, ..wanted("r.example/web:1") };
    bench.check(&always, "ab", Some(News::Recorded));
}

#[test]
fn an_update_asks_what_the_tag_means_now() {
    let bench = Bench::new();
    let web = wanted("r.example/web:1");
    bench.store.push("r.example/web:1", 'a', 'b');
    let version =
        |id, in_registry: Option<char>| ImageVersion { id: digest(id), digest: in_registry.map(digest) };
    assert_eq!(newest(&web, &bench.store), Ok(version('a', Some('b'))));
    bench.store.push("r.example/web:1", 'c', 'd');
    assert_eq!(newest(&web, &bench.store), Ok(version('c', Some('d'))));
    *bench.store.registry.borrow_mut() = None;
    assert_eq!(newest(&web, &bench.store), Err(ResolveError::Engine("nobody answers".to_owned())));
    let local = wanted("localhost/shop-web:latest");
    bench.store.make(&local.reference, 'e');
    assert_eq!(newest(&local, &bench.store), Ok(version('e', None)));
}

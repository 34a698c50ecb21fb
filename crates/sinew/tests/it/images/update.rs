//! Updates under load, and every way in which one can fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sinew_testkit::load::{Load, Options, Report};

use super::bench::{Behaviour, Bench};
use super::{ask, compose, history, lock_text, serves};
use crate::harness::until;
use crate::lifetimes::free_port;

const RATE: u32 = 300;

/// Version `one` runs, and the tag means `next` by now.
fn updatable(name: &str, next: Behaviour<'_>) -> (Bench, u16) {
    let bench = Bench::new(name);
    let port = free_port();
    bench.push("web:1", &[("VERSION", "one")]);
    bench.sandbox.write("compose.yaml", &compose(&bench, port, ""));
    bench.sinew(&["up", "-d"]).ok();
    serves(port, "one");
    let id = bench.push("web:1", next);
    // As on a host that has never seen it. A container of the old one runs.
    bench.podman(&["rmi", "-f", &id]);
    (bench, port)
}

fn load(port: u16) -> Load {
    let load = Load::start(Options {
        address: ([127, 0, 0, 1], port).into(),
        host: "web".into(),
        path: "/".into(),
        body: Some("a reading that must not be written twice".to_owned()),
        requests_per_second: RATE,
        connections: 16,
        answer_timeout: Duration::from_secs(5),
        time_max: Duration::from_secs(120),
    });
    load.pass(300);
    load
}

fn versions(report: &Report) -> Vec<&str> {
    report.served_by.keys().map(String::as_str).collect()
}

#[test]
fn an_update_and_a_rollback_lose_no_request() {
    let (bench, port) = updatable("shop", &[("VERSION", "two")]);
    let before = lock_text(&bench);
    let load = load(port);
    let plan = bench.sinew(&["update", "--dry-run"]).ok();
    assert!(plan.stdout.contains(" -> "), "{}", plan.stdout);
    load.pass(300);
    assert_eq!((ask(port).as_deref(), lock_text(&bench)), (Some("one"), before.clone()));

    let updated = bench.sinew(&["update", "web", "--watch", "2s"]).ok();
    assert!(updated.stdout.contains("kept; sinew.lock says so"), "{}", updated.stdout);
    load.pass(300);
    assert_eq!(ask(port).as_deref(), Some("two"));
    assert_ne!(lock_text(&bench), before);
    let again = bench.sinew(&["update"]).ok();
    assert!(again.stdout.contains("is the newest"), "{}", again.stdout);

    bench.sinew(&["rollback", "--watch", "1s"]).ok();
    load.pass(300);
    let report = load.finish();
    println!("{} sent, p99 {:.1} ms, {:?}", report.sent, report.quantile_ms(0.99), report.served_by);
    assert_eq!(report.failed, []);
    assert_eq!(versions(&report), ["one", "two"]);
    assert_eq!(ask(port).as_deref(), Some("one"));
    let whats: Vec<String> = history(&bench).into_iter().map(|(what, _)| what).collect();
    assert_eq!(whats, ["updated", "rolled_back"]);
    // A start from nothing takes what the lock says.
    bench.sinew(&["down"]).ok();
    bench.sinew(&["up", "-d", "--locked"]).ok();
    serves(port, "one");
    bench.sinew(&["down"]).ok();
    assert_eq!(bench.sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn an_unhealthy_version_never_serves() {
    let (bench, port) = updatable("ill", &[("VERSION", "two"), ("UNHEALTHY", "1")]);
    let before = lock_text(&bench);
    let load = load(port);
    let failed = bench.sinew(&["update"]);
    assert_eq!(failed.code, 1, "{}", failed.stdout);
    assert!(failed.stderr.contains("taken back: web-2 is not healthy"), "{}", failed.stderr);
    load.pass(300);
    let report = load.finish();
    assert_eq!(report.failed, []);
    assert_eq!(versions(&report), ["one"]);
    assert_eq!(lock_text(&bench), before);
    let [(what, why)] = &history(&bench)[..] else { panic!("{:?}", history(&bench)) };
    assert!(what == "taken_back" && why.contains("is not healthy"), "{what}: {why}");
    bench.sinew(&["down"]).ok();
}

#[test]
fn a_version_that_crashes_while_it_is_watched_is_taken_back() {
    let (bench, port) = updatable("crash", &[("VERSION", "two"), ("CRASH_AFTER_MS", "4000")]);
    let before = lock_text(&bench);
    let failed = bench.sinew(&["update", "--watch", "60s"]);
    assert_eq!(failed.code, 1, "{}", failed.stdout);
    assert!(failed.stderr.contains("taken back: web-2 ended with code 3"), "{}", failed.stderr);
    // Answered when the old version serves again.
    assert_eq!(ask(port).as_deref(), Some("one"));
    assert_eq!(lock_text(&bench), before);
    assert_eq!(history(&bench)[0].0, "taken_back");
    bench.sinew(&["down"]).ok();
}

#[test]
fn what_cannot_be_pulled_replaces_nobody() {
    let (mut bench, port) = updatable("pull", &[("VERSION", "two")]);
    let before = lock_text(&bench);
    let check = |bench: &Bench, whats: usize| {
        let failed = bench.sinew(&["update"]);
        assert_eq!(failed.code, 1, "{}", failed.stdout);
        assert!(failed.stderr.contains("nothing was replaced"), "{}", failed.stderr);
        assert_eq!((ask(port).as_deref(), lock_text(bench)), (Some("one"), before.clone()));
        let past = history(bench);
        assert_eq!(past.len(), whats);
        assert_eq!(past[whats - 1].0, "not_pulled");
        past[whats - 1].1.clone()
    };
    // The connection breaks in the middle of a layer.
    bench.cut_after(Some(20_000));
    check(&bench, 1);
    bench.cut_after(None);
    // The registry gives other bytes than those of the digest.
    let layers = largest(&bench.blobs());
    let mut changed = fs::read(&layers).expect("read a layer");
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(&layers, changed).expect("change a layer");
    check(&bench, 2);
    bench.stop_registry();
    check(&bench, 3);
    bench.sinew(&["down"]).ok();
}

/// The newest of the files that hold layers: that of the version that is not here yet.
fn largest(folder: &Path) -> PathBuf {
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("list").flatten() {
            let kind = entry.metadata().expect("look at it");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.len() > 100_000 {
                found.push((kind.modified().expect("a time"), entry.path()));
            }
        }
    }
    found.sort();
    found.pop().expect("there are layers").1
}

/// Kills everything when the journal says `step`; no network afterwards.
fn power_cut(name: &str, next: Behaviour<'_>, step: &str) {
    let (mut bench, port) = updatable(name, next);
    let before = lock_text(&bench);
    let socket = format!("unix://{}", bench.socket().display());
    let mut updating = bench
        .sandbox
        .command(&["update", "--watch", "60s"])
        .env("CONTAINER_HOST", &socket)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start an update");
    let journal = bench.sandbox.state().join(name).join("update.json");
    until("the update goes on", Duration::from_secs(30), || {
        let text = fs::read_to_string(&journal).ok()?;
        let running = bench.podman(&["ps", "-q"]).lines().count();
        // The new one runs, beside the old one or in its place.
        (text.contains(step) && (step == "watching" || running == 2)).then_some(())
    });
    bench.cut_power();
    let _ = updating.wait();
    bench.stop_registry();
    assert_eq!(ask(port), None, "everything is dead");

    let at = Instant::now();
    let up = bench.sinew(&["up", "-d"]).ok();
    serves(port, "one");
    let took = at.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}: {}", up.stderr);
    println!("the old version served {} ms after the next start", took.as_millis());
    assert_eq!(lock_text(&bench), before);
    let past = history(&bench);
    assert!(past.len() == 1 && past[0].0 == "taken_back" && past[0].1.contains("interrupted"), "{past:?}");
    assert!(!journal.exists());
    bench.sinew(&["down"]).ok();
    assert_eq!(bench.sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn a_power_cut_in_the_middle_of_the_swap_leaves_the_old_version() {
    power_cut("swap", &[("VERSION", "two"), ("READY_AFTER_MS", "600000")], "replacing");
}

#[test]
fn a_power_cut_while_the_new_version_is_watched_leaves_the_old_one() {
    power_cut("watch", &[("VERSION", "two")], "watching");
}

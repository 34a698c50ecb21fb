//! `sinew.lock`: written once, obeyed afterwards.

use std::fs;

use super::bench::Bench;
use super::{ask, compose, lock_text, serves};
use crate::lifetimes::free_port;

#[test]
fn a_tag_that_moves_moves_nobody() {
    let mut bench = Bench::new("shop");
    let port = free_port();
    let first = bench.push("web:1", &[("VERSION", "one")]);
    bench.podman(&["rmi", "-f", &first]);
    bench.sandbox.write("compose.yaml", &compose(&bench, port, ""));
    let refused = bench.sinew(&["up", "-d", "--locked"]);
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    assert!(refused.stderr.contains("--locked forbids to add it"), "{}", refused.stderr);
    let up = bench.sinew(&["up", "-d"]).ok();
    assert!(up.stderr.contains("recorded in sinew.lock"), "{}", up.stderr);
    serves(port, "one");
    let lock = lock_text(&bench);
    assert!(lock.contains(&format!("    id: sha256:{first}\n")), "{lock}");
    assert!(lock.contains("    digest: sha256:"), "{lock}");
    bench.sinew(&["down"]).ok();

    // The tag means another image by now, in the registry and here.
    let second = bench.push("web:1", &[("VERSION", "two")]);
    assert_ne!(first, second);
    bench.sinew(&["up", "-d", "--locked"]).ok();
    serves(port, "one");
    bench.sinew(&["down"]).ok();
    // On another machine: the recorded digest is pulled, and no network is needed afterwards.
    bench.podman(&["rmi", "-f", &first]);
    bench.sinew(&["up", "-d", "--locked"]).ok();
    serves(port, "one");
    bench.sinew(&["down"]).ok();
    bench.stop_registry();
    bench.sinew(&["up", "-d", "--locked"]).ok();
    serves(port, "one");
    assert_eq!(lock_text(&bench), lock);

    bench.sandbox.write("sinew.lock", "version: 1\nimages:\n  - reference: web\n");
    let wrong = bench.sinew(&["up", "-d"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("sinew.lock:3:5: `platform` is missing"), "{}", wrong.stderr);
    assert_eq!(ask(port).as_deref(), Some("one"), "what runs is left alone");

    // Without it, the tag is asked again.
    bench.start_registry();
    fs::remove_file(bench.sandbox.folder.join("sinew.lock")).expect("it is there");
    let up = bench.sinew(&["up", "-d"]).ok();
    assert!(up.stderr.contains("recorded in sinew.lock"), "{}", up.stderr);
    serves(port, "two");
    bench.sinew(&["down"]).ok();
    assert_eq!(bench.sandbox.left_over(), Vec::<String>::new());
}

//! What else happens while one process takes the place of another: limits that are over, reloads, a successor that dies with
//! the place in its hand, processes that are frozen.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::builds::{daemon_log, proxies, try_up_with, up_with, wait_for};
use super::faults::{PROXIES, Small};
use super::{PATIENCE, Tunnel};
use crate::harness::{User, is_release, until};
use crate::lifetimes::get;

#[test]
fn long_streams_end_at_the_limit_and_the_old_processes_with_them() {
    const LIMIT: Duration = Duration::from_secs(3);
    let limit = "handover_drain: 3s";
    let mut small = Small::with(User::Own, "limit", "python3 web.py", limit, limit);
    let mut tunnel = Tunnel::open(small.port);
    tunnel.say("before");
    let build = small.builds.next();
    let began = Instant::now();
    up_with(&small.sandbox, &build);
    wait_for(&small.sandbox, &build, PROXIES);
    tunnel.ends();
    assert!(began.elapsed() >= LIMIT, "cut after {:?}", began.elapsed());
    until("the old ones end", PATIENCE, || (small.all_proxies() == PROXIES).then_some(()));
    // What comes afterwards goes the new way.
    Tunnel::open(small.port).say("after");
    small.end();
}

#[test]
fn reloads_in_the_middle_of_a_succession_lose_nothing() {
    if is_release() {
        return;
    }
    let mut small = Small::new(User::Own, "reload");
    let path = small.sandbox.folder.join("compose.yaml");
    let good = std::fs::read_to_string(&path).expect("the file");
    let (hanging, build) = (small.builds.hanging(), small.builds.next());
    let before = proxies(&small.sandbox);
    up_with(&small.sandbox, &hanging);
    let is_in_the_middle = |small: &Small| {
        (small.of_build(&hanging).len() == PROXIES && proxies(&small.sandbox) == before).then_some(())
    };
    until("both wait for their successors", PATIENCE, || is_in_the_middle(&small));

    small.sandbox.write("compose.yaml", &good.replace("ports:", "prots:"));
    let (code, said) = try_up_with(&small.sandbox, &hanging);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("compose.yaml:5:5: `prots` is not a key of a service"), "{said}");
    small.load.pass(50);

    let earlier = applied(&small).expect("all have what there is");
    small.sandbox.write("compose.yaml", &good.replace("gateway: {", "gateway: { workers: 3"));
    until("both wait again", PATIENCE, || is_in_the_middle(&small));
    let (code, said) = try_up_with(&small.sandbox, &hanging);
    assert_eq!(code, 0, "{said}");
    until("it is served", PATIENCE, || applied(&small).filter(|revision| *revision > earlier));
    assert_eq!(proxies(&small.sandbox), before, "by the old ones");
    small.load.pass(50);

    up_with(&small.sandbox, &build);
    wait_for(&small.sandbox, &build, PROXIES);
    until("the old ones end", PATIENCE, || (small.all_proxies() == PROXIES).then_some(()));
    small.end();
}

/// The revision that all proxies serve.
fn applied(small: &Small) -> Option<u64> {
    let status = small.sandbox.sinew(&["status", "-o", "json"]).ok().json();
    (status["applied"] == status["subscribed"]).then(|| status["revision"].as_u64()).flatten()
}

#[test]
fn a_successor_that_dies_with_the_place_in_its_hand_is_followed_by_another_at_once() {
    const GAP_MAX: Duration = Duration::from_secs(10);
    if is_release() {
        return;
    }
    let mut small = Small::new(User::Own, "dies");
    let dying = small.builds.dying();
    let mut tunnel = Tunnel::open(small.port);
    up_with(&small.sandbox, &dying);
    wait_for(&small.sandbox, &dying, PROXIES);
    tunnel.say("through the old ones");
    until("it serves", PATIENCE, || get(small.port).ok());
    small.load.pass(50);
    drop(tunnel);
    until("the old ones end", PATIENCE, || (small.all_proxies() == PROXIES).then_some(()));
    let report = small.load.finish();
    let log = daemon_log(&small.sandbox);
    assert_eq!(log.matches("goes on: the new one ended").count(), PROXIES, "{log}");
    // Published ports were closed for a moment: connecting failed. What was accepted was answered, and a seal's sockets are its
    // init's: nothing failed behind the gateway.
    let times: Vec<u64> = report.failed.iter().map(|(ms, _)| *ms).collect();
    let gap = times.iter().max().unwrap_or(&0) - times.iter().min().unwrap_or(&0);
    println!("{} of {} failed within {gap} ms: {:?}", times.len(), report.sent, report.failed);
    assert!(gap < GAP_MAX.as_millis() as u64, "{:?}", report.failed);
    assert!(report.failed.iter().all(|(_, why)| !why.starts_with("http/")), "{:?}", report.failed);
    small.sandbox.sinew(&["down"]).ok();
    assert_eq!(small.sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn proxies_that_are_frozen_when_they_are_adopted_are_replaced() {
    const BOUND: Duration = Duration::from_secs(45);
    let small = Small::new(User::Own, "frozen");
    let report = small.load.finish();
    assert_eq!(report.failed, []);
    let frozen = proxies(&small.sandbox);
    assert_eq!(frozen.len(), PROXIES);
    for pid in &frozen {
        kill(Pid::from_raw(*pid as i32), Signal::SIGSTOP).expect("freeze it");
    }
    let launcher = crate::harness::mentioning(&[&small.sandbox.run().display().to_string()]);
    let launcher = launcher.iter().find(|(_, line)| line.contains("__daemon")).expect("a launcher").0;
    kill(Pid::from_raw(launcher), Signal::SIGKILL).expect("kill the launcher");
    let began = Instant::now();
    small.sandbox.sinew(&["up", "-d"]).ok();
    until("it serves", BOUND, || get(small.port).ok());
    println!("replaced within {:?}", began.elapsed());
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    let log = daemon_log(&small.sandbox);
    for pid in &frozen {
        let told = format!(
            "proxy {pid} said nothing and answered nobody (frozen?), and was ended; another one is started"
        );
        assert!(log.contains(&told), "{log}");
    }
    assert!(proxies(&small.sandbox).iter().all(|pid| !frozen.contains(pid)), "{frozen:?}");
    small.sandbox.sinew(&["down"]).ok();
    assert_eq!(small.sandbox.left_over(), Vec::<String>::new());
}

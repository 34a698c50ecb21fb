//! What goes wrong in the middle of a hand-over: processes that hang, launchers that die, builds that follow each other at
//! once. Somebody serves all the while, and nothing is left behind.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sinew_spec::handover::HandoverMessage;
use sinew_testkit::load::{Load, Options};
use sinew_transport::descriptors::Channel;
use sinew_transport::handover::{expect, receive, send, who};

use super::builds::{Builds, daemon_log, proxies, run, runs, up_with, wait_for};
use super::{PATIENCE, Tunnel};
use crate::harness::{Sandbox, User, is_release, until, users};
use crate::lifetimes::{WEB, free_port};

/// Of the instance and of the gateway.
pub const PROXIES: usize = 2;
const READING: &str = "a reading that must not be written twice";

/// Sends numbers to the address that it is given.
const SENSOR: &str = r#"
import socket, sys, time
host, port = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((host, int(port)))
number = 0
while True:
    s.send(str(number).encode())
    number += 1
    time.sleep(0.02)
"#;

/// Who sent the numbers that came, until there is nothing more to read.
fn readings(meter: &UdpSocket) -> (Vec<u64>, BTreeSet<SocketAddr>) {
    let (mut numbers, mut senders) = (Vec::new(), BTreeSet::new());
    let mut part = [0; 100];
    while let Ok((count, from)) = meter.recv_from(&mut part) {
        numbers.push(String::from_utf8_lossy(&part[..count]).parse().expect("a number"));
        senders.insert(from);
    }
    (numbers, senders)
}

/// One instance behind a published port, under a load of requests that nobody may repeat.
pub struct Small {
    pub sandbox: Sandbox,
    pub port: u16,
    pub builds: Builds,
    pub load: Load,
}

impl Small {
    pub fn new(user: User, name: &str) -> Self {
        Self::with(user, name, "python3 web.py", "", "")
    }

    /// `sinew`: what else is under `x-sinew` of the service; `gateway`: of the gateway.
    pub fn with(user: User, name: &str, command: &str, sinew: &str, gateway: &str) -> Self {
        let sandbox = Sandbox::new(user, name);
        let port = free_port();
        sandbox.write("web.py", WEB);
        sandbox.write("sensor.py", SENSOR);
        sandbox.write(
            "compose.yaml",
            &format!(
                r#"
services:
  web:
    command: [sh, -c, "{command}"]
    ports: ["{port}:8000"]
    x-sinew:
      health: {{ http: {{ port: 8000, path: / }} }}
      protocol: {{ 8000: http }}
      {sinew}
x-sinew: {{ gateway: {{ {gateway} }} }}
"#
            ),
        );
        sandbox.sinew(&["up", "-d"]).ok();
        until("it serves", PATIENCE, || crate::lifetimes::get(port).ok());
        let load = Load::start(Options {
            address: ([127, 0, 0, 1], port).into(),
            host: "web".into(),
            path: "/".into(),
            body: Some(READING.into()),
            requests_per_second: 100,
            connections: 4,
            answer_timeout: Duration::from_secs(20),
            time_max: Duration::from_secs(600),
        });
        load.pass(20);
        Self { sandbox, port, builds: Builds::new(name), load }
    }

    fn launcher(&self) -> Pid {
        let all = self.sandbox.processes();
        let launchers: Vec<_> = all.iter().filter(|(_, line)| line.contains("__daemon")).collect();
        assert_eq!(launchers.len(), 1, "{all:?}");
        Pid::from_raw(launchers[0].0)
    }

    pub fn kill_launcher(&self) {
        let launcher = self.launcher();
        kill(launcher, Signal::SIGKILL).expect("kill the launcher");
        until("the launcher is gone", PATIENCE, || {
            (!self.sandbox.processes().iter().any(|(_, line)| line.contains("__daemon"))).then_some(())
        });
    }

    /// Proxies of that build.
    pub fn of_build(&self, build: &Path) -> Vec<i32> {
        let all = self.sandbox.processes().into_iter();
        all.filter(|(pid, line)| line.contains("--bootstrap") && runs(pid, build))
            .map(|(pid, _)| pid)
            .collect()
    }

    pub fn all_proxies(&self) -> usize {
        self.sandbox.processes().iter().filter(|(_, line)| line.contains("--bootstrap")).count()
    }

    /// Where a successor asks for the gateway's place.
    fn place(&self) -> PathBuf {
        let folders = std::fs::read_dir(run(&self.sandbox).join("i")).expect("instances").flatten();
        let sockets = folders.map(|folder| folder.path().join("next.sock"));
        let is_the_gateways = |path: &PathBuf| !path.with_file_name("init.sock").exists();
        sockets.filter(is_the_gateways).find(|path| path.exists()).expect("the gateway's socket")
    }

    /// Nothing was lost, and nothing is left.
    pub fn end(self) {
        self.load.pass(20);
        let report = self.load.finish();
        assert_eq!(report.failed, [], "{}", daemon_log(&self.sandbox));
        self.sandbox.sinew(&["down"]).ok();
        assert_eq!(self.sandbox.left_over(), Vec::<String>::new(), "as {:?}", self.sandbox.user);
    }
}

#[test]
fn a_build_that_hangs_and_a_launcher_that_dies_with_it_are_followed_by_the_next() {
    if is_release() {
        return;
    }
    for user in users() {
        let mut small = Small::new(user, "hang");
        let (hanging, good) = (small.builds.hanging(), small.builds.next());
        let before = proxies(&small.sandbox);
        up_with(&small.sandbox, &hanging);
        let hung = until("both are tried", PATIENCE, || {
            Some(small.of_build(&hanging)).filter(|hung| hung.len() == PROXIES)
        });
        small.load.pass(50);
        assert_eq!(proxies(&small.sandbox), before);
        small.kill_launcher();
        small.load.pass(50);
        up_with(&small.sandbox, &good);
        wait_for(&small.sandbox, &good, PROXIES);
        let left = small.of_build(&hanging);
        assert!(left.is_empty(), "{left:?} of {hung:?}, as {user:?}: {}", daemon_log(&small.sandbox));
        until("the old ones end", PATIENCE, || (small.all_proxies() == PROXIES).then_some(()));
        small.end();
    }
}

#[test]
fn a_build_that_hangs_is_given_up_in_time_and_down_ends_the_next_try() {
    if is_release() {
        return;
    }
    let mut small = Small::new(User::Own, "slow");
    let hanging = small.builds.hanging();
    let before = proxies(&small.sandbox);
    up_with(&small.sandbox, &hanging);
    let said = || daemon_log(&small.sandbox).matches("goes on: the new one is not ready in time").count();
    until("the first try is given up", PATIENCE, || (said() >= PROXIES).then_some(()));
    let status = small.sandbox.sinew(&["status"]).ok().stdout;
    let expected = "the proxy of _gateway-1, web-1 still runs another build of sinew\n  the new one is not ready in time";
    assert!(status.contains(expected), "{status}");
    until("the next one begins", PATIENCE, || (!small.of_build(&hanging).is_empty()).then_some(()));
    assert_eq!(proxies(&small.sandbox), before);
    small.end();
}

#[test]
fn launchers_that_die_at_any_moment_of_a_succession_leave_one_that_serves() {
    for user in users() {
        let mut small = Small::new(user, "torn");
        // Where the successor stands when its launcher dies is chance.
        for _ in 0..3 {
            let build = small.builds.next();
            up_with(&small.sandbox, &build);
            let caught = until("a successor is born", PATIENCE, || small.of_build(&build).first().copied());
            // It may have been given up in between: then there is nothing to stop.
            let _ = kill(Pid::from_raw(caught), Signal::SIGSTOP);
            small.kill_launcher();
            let _ = kill(Pid::from_raw(caught), Signal::SIGCONT);
            small.load.pass(20);
            up_with(&small.sandbox, &build);
            wait_for(&small.sandbox, &build, PROXIES);
            small.load.pass(20);
        }
        until("the old ones end", PATIENCE, || (small.all_proxies() == PROXIES).then_some(()));
        small.end();
    }
}

#[test]
fn down_in_the_middle_of_a_succession_leaves_nothing() {
    for user in users() {
        let mut small = Small::new(user, "short");
        let build = small.builds.next();
        up_with(&small.sandbox, &build);
        until("a successor is born", PATIENCE, || small.of_build(&build).first().copied());
        let report = small.load.finish();
        small.sandbox.sinew(&["down"]).ok();
        assert_eq!(small.sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
        assert_eq!(report.failed, [], "as {user:?}");
    }
}

#[test]
fn two_builds_in_quick_succession_keep_a_stream_and_a_flow_of_datagrams() {
    let host = nix::unistd::gethostname().expect("the host has a name").to_string_lossy().into_owned();
    for user in users() {
        let meter = UdpSocket::bind("0.0.0.0:0").expect("bind");
        meter.set_nonblocking(true).expect("set it");
        let port = meter.local_addr().expect("bound").port();
        let command = format!("python3 sensor.py {host} {port} & exec python3 web.py");
        let mut small = Small::with(user, "quick", &command, &format!("egress: [\"{host}:{port}/udp\"]"), "");
        let (first, second) = (small.builds.next(), small.builds.next());
        let mut tunnel = Tunnel::open(small.port);
        up_with(&small.sandbox, &first);
        up_with(&small.sandbox, &second);
        wait_for(&small.sandbox, &second, PROXIES);
        tunnel.say("after both");
        assert!(small.all_proxies() > PROXIES, "the old ones hold it");
        drop(tunnel);
        until("the old ones end", PATIENCE, || (small.all_proxies() == PROXIES).then_some(()));
        assert_eq!(small.of_build(&second).len(), PROXIES);
        let (numbers, senders) = readings(&meter);
        let expected: Vec<u64> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "as {user:?}");
        assert_eq!(senders.len(), 1, "as {user:?}: {senders:?} {}", daemon_log(&small.sandbox));
        small.end();
    }
}

/// Successors that ask for the gateway's place themselves and end, or say nothing more, at each step.
#[test]
fn a_successor_may_end_or_fall_silent_at_any_step() {
    let small = Small::new(User::Own, "silent");
    let before = proxies(&small.sandbox);
    let place = small.place();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let serves = || runtime.block_on(who(&place)).expect("somebody answers").0;
    let old = serves();

    // It ends with the sockets in its hand.
    let (channel, sockets) = runtime.block_on(take(&place));
    assert_eq!(sockets, 1);
    drop(channel);
    assert_eq!(serves(), old);

    // It says nothing more: everything goes on meanwhile, and the line is closed.
    let (channel, _) = runtime.block_on(take(&place));
    small.load.pass(20);
    runtime.block_on(closed(&channel));
    assert_eq!(serves(), old);

    // It ends, or falls silent, when the other one has stopped accepting.
    for is_silent in [false, true] {
        let (channel, _) = runtime.block_on(take(&place));
        runtime.block_on(async {
            send(&channel, &HandoverMessage::Ready, &[]).await.expect("it listens");
            expect(&channel, &HandoverMessage::Go).await.expect("it stops");
        });
        if is_silent {
            runtime.block_on(async {
                closed(&channel).await;
                send(&channel, &HandoverMessage::Prepared, &[]).await.expect_err("it is too late");
            });
        }
        drop(channel);
        assert_eq!(serves(), old);
        small.load.pass(20);
    }

    // A message out of turn, and none at all.
    for message in [&br#""prepared""#[..], b"?"] {
        runtime.block_on(async {
            let (channel, _) = take(&place).await;
            channel.send(message, &[]).await.expect("it listens");
            closed(&channel).await;
        });
        assert_eq!(serves(), old);
    }
    assert_eq!(proxies(&small.sandbox), before);
    small.end();
}

/// Asks for the place: the line, and how many sockets came.
async fn take(place: &Path) -> (Channel, usize) {
    let channel = Channel::connect(place).await.expect("somebody serves");
    send(&channel, &HandoverMessage::Take, &[]).await.expect("it listens");
    let mut count = 0;
    loop {
        match receive(&channel).await.expect("sockets") {
            (HandoverMessage::Published { addresses, more }, sockets) => {
                assert_eq!(addresses.len(), sockets.len());
                count += sockets.len();
                if !more {
                    return (channel, count);
                }
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

async fn closed(channel: &Channel) {
    let ended = receive(channel).await.expect_err("the line ends");
    assert_eq!(ended.kind(), std::io::ErrorKind::UnexpectedEof, "{ended}");
}

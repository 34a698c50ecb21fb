use std::io::Write;
use std::process::Stdio;

use super::*;

#[track_caller]
fn check_stat(text: &str, expect: Option<(u8, i32, u64)>) {
    let found = Stat::parse(text).map(|stat| (stat.state, stat.parent, stat.start_ticks));
    assert_eq!(found, expect);
}

#[test]
fn a_name_with_parentheses_does_not_shift_the_fields() {
    let rest = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
    check_stat(&format!("12 (cat) {rest}"), Some((b'S', 7, 4242)));
    check_stat(&format!("12 (a) R 1 (b) {rest}"), Some((b'S', 7, 4242)));
    check_stat("12 (cat", None);
    check_stat("", None);
}

fn waiting_child(lifeline: Option<BorrowedFd<'_>>, script: &str) -> ProcessId {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::null());
    spawn(&mut command, lifeline).expect("sh starts")
}

#[tokio::test]
async fn an_end_is_told_and_the_child_reaped() {
    let id = waiting_child(None, "exec sleep 1000");
    assert!(id.is_alive());
    let watched = Watched::open(id).expect("opened").expect("alive");
    watched.signal(libc::SIGKILL).expect("sent");
    watched.ended().await;
    assert!(!std::path::Path::new(&format!("/proc/{}", id.pid)).exists(), "no zombie");
    watched.signal(libc::SIGKILL).expect("no error after the end");
    assert!(Watched::open(id).expect("no error").is_none());
}

#[tokio::test]
async fn the_lifeline_is_descriptor_three() {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    let id = waiting_child(Some(std::os::fd::AsFd::as_fd(&read)), "read line <&3; exec sleep 1000 <&3");
    let watched = Watched::open(id).expect("opened").expect("alive");
    fs::File::from(write.try_clone().expect("a duplicate")).write_all(b"x\n").expect("written");
    assert!(id.is_alive());
    drop(write);
    kill(id);
    watched.ended().await;
}

#[test]
fn only_our_own_processes_are_found_by_their_arguments() {
    let check = |line: &str, expect: bool| {
        let line = line.replace(' ', "\0");
        assert_eq!(is_ours(line.as_bytes(), "__init", OsStr::new("/r/i/a-1")), expect, "{line}");
    };
    check("sinew __init /r/i/a-1", true);
    check("sinew __init --inside /r/i/a-1", true);
    check("sinew __init --inside /r/i/a-10", false);
    check("sinew proxy /r/i/a-1", false);
    check("ls /r/i/a-1", false);
    check("", false);
}

#[test]
fn another_process_of_the_same_pid_is_another() {
    let own = ProcessId::of(std::process::id() as i32).expect("we live");
    assert!(own.is_alive());
    assert!(!ProcessId { start_ticks: own.start_ticks + 1, ..own }.is_alive());
}

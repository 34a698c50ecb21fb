//! What is in a seal and what becomes of it.

use super::*;

use sinew_spec::seal::TerminalSize;

#[test]
fn looks_like_a_machine_of_its_own() {
    as_everyone("seal::inside::looks_like_a_machine_of_its_own", async |_| {
        let sealed = Sealed::new("machine", &plain()).await;
        assert_eq!(sealed.output(&["hostname"]).await, "probe-1\n");
        assert_eq!(
            sealed.output(&["cat", "/etc/hosts", "/etc/hostname"]).await,
            "127.0.0.1 localhost\nprobe-1\n"
        );
        assert!(sealed.output(&["cat", "/etc/resolv.conf"]).await.starts_with("nameserver 198.18.0.1\n"));
        // The init and the one that asks.
        let processes = sealed.output(&["sh", "-c", "cd /proc; for p in [0-9]*; do echo $p; done"]).await;
        assert_eq!(processes.lines().count(), 2, "{processes}");
        let root = sealed.output(&["ls", "-A", "/", "/tmp", "/home", "/root"]).await;
        assert!(!root.contains("work") && !root.contains(".made"), "{root}");
        sealed.shut_down().await;
    });
}

#[test]
fn tells_how_a_service_ended_and_what_it_said() {
    as_everyone("seal::inside::tells_how_a_service_ended_and_what_it_said", async |_| {
        let sealed = Sealed::new("service", &plain()).await;
        let script = "echo hello; echo oh >&2; sleep 1000 & kill -TERM $$";
        let state = sealed.service(&["sh", "-c", script]).await;
        assert!(matches!(state, ServiceState::Exited { code: 143, signal: Some(15), .. }), "{state:?}");
        let processes = sealed.output(&["sh", "-c", "cd /proc; for p in [0-9]*; do echo $p; done"]).await;
        assert_eq!(processes.lines().count(), 2, "what a service leaves is killed: {processes}");
        let state = sealed.service(&["sh", "-c", "printf again; exit 3"]).await;
        assert!(matches!(state, ServiceState::Exited { code: 3, signal: None, .. }), "{state:?}");
        let log = fs::read_to_string(sealed.folder.join("log")).expect("the log");
        let mut lines: Vec<&str> =
            log.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["e oh", "o again", "o hello"]);
        sealed.shut_down().await;
    });
}

#[test]
fn the_check_of_the_host_builds_a_seal() {
    as_everyone("seal::inside::the_check_of_the_host_builds_a_seal", async |user| {
        let folder = folder("check");
        let findings = sinew_node::seal::check::check(&program(), &folder).await;
        for finding in &findings {
            println!("{user:?}: {finding:?}");
        }
        for what in ["kernel", "namespaces", "seal", "open files"] {
            assert!(findings.iter().any(|finding| finding.what == what && finding.ok), "{what}");
        }
        for finding in &findings {
            assert_eq!(finding.ok, finding.hint.is_none(), "{finding:?}");
        }
        fs::remove_dir(folder).expect("nothing is left in the folder");
    });
}

#[test]
fn an_init_is_small() {
    as_everyone("seal::inside::an_init_is_small", async |user| {
        let sealed = Sealed::new("small", &plain()).await;
        for _ in 0..20 {
            sealed.output(&["true"]).await;
            sealed.init().await.standing_sockets().await.expect("sockets");
        }
        let rollup = format!("/proc/{}/smaps_rollup", sealed.seal.init_pid);
        // Only root may look at a process that nobody may look into.
        if fs::read_to_string(&rollup).is_ok() {
            let kilobytes = |text: &str, name: &str| -> Option<u64> {
                text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
            };
            // Its own memory: with one instance nobody shares the pages of the program. The promise for all of it is the
            // release binary's (`memory`); one that is not optimized has three times the addresses to relocate.
            let kilobytes_max = if crate::harness::is_release() { 768 } else { 1536 };
            crate::harness::until("little memory", Duration::from_secs(5), || {
                let text = fs::read_to_string(&rollup).expect("the init lives");
                let (all, own) = (kilobytes(&text, "Pss:")?, kilobytes(&text, "Anonymous:")?);
                println!("{user:?}: {all} KiB, of it {own} KiB anonymous");
                (own <= kilobytes_max).then_some(())
            });
        }
        sealed.shut_down().await;
    });
}

#[test]
fn hosts_change_in_place() {
    as_everyone("seal::inside::hosts_change_in_place", async |_| {
        let sealed = Sealed::new("hosts", &plain()).await;
        for content in ["198.18.0.5 orders\n127.0.0.1 localhost\n", "127.0.0.1 localhost\n"] {
            sealed
                .init()
                .await
                .tell(&InitRequest::Hosts { content: content.to_owned() })
                .await
                .expect("hosts");
            assert_eq!(sealed.output(&["cat", "/etc/hosts"]).await, content);
        }
        sealed.shut_down().await;
    });
}

#[test]
fn an_exec_ends_with_its_connection() {
    as_everyone("seal::inside::an_exec_ends_with_its_connection", async |_| {
        let sealed = Sealed::new("exec", &plain()).await;
        let (_read, write) = std::io::pipe().expect("pipe");
        let streams = [write.as_fd(), write.as_fd(), write.as_fd()];
        let exec = sealed.init().await.exec(command(&["sleep", "1000"]), streams).await.expect("exec");
        let alive = ["test", "-d", &format!("/proc/{}", exec.pid)].map(str::to_owned);
        let alive: Vec<&str> = alive.iter().map(String::as_str).collect();
        assert_eq!(sealed.exec(&alive).await.0, 0);
        drop(exec);
        while sealed.exec(&alive).await.0 == 0 {}
        let (code, text) = sealed.exec(&["sh", "-c", "exit 7"]).await;
        assert_eq!((code, text.as_str()), (7, ""));
        let failed = sealed.init().await.exec(command(&["nosuchprogram"]), streams).await.expect_err("fails");
        assert!(
            failed.to_string().contains("nosuchprogram: not found inside the seal in /usr/bin, "),
            "{failed}"
        );
        sealed.shut_down().await;
    });
}

#[test]
fn a_terminal_can_be_given() {
    as_everyone("seal::inside::a_terminal_can_be_given", async |_| {
        let sealed = Sealed::new("tty", &plain()).await;
        let script = "tty; stty size; test -w $(tty) && echo a terminal >/dev/tty; exit 4";
        let size = TerminalSize { rows: 30, columns: 101 };
        let exec = sealed.init().await.exec_on_terminal(command(&["sh", "-c", script]), size).await;
        let (mut exec, outer) = exec.expect("exec");
        let code = exec.wait().await.expect("end");
        let mut text = Vec::new();
        // EIO after the last byte: nobody holds the inner end any more.
        let _ = File::from(outer).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        assert_eq!((code, text.as_ref()), (4, "/dev/pts/0\r\n30 101\r\na terminal\r\n"));
        sealed.shut_down().await;
    });
}

#[test]
fn users_other_than_the_own_are_for_root() {
    as_everyone("seal::inside::users_other_than_the_own_are_for_root", async |_| {
        let sealed = Sealed::new("user", &plain()).await;
        let mut other = command(&["sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status"]);
        (other.uid, other.gid, other.groups) = (1234, 2345, vec![2345, 7]);
        if geteuid().is_root() {
            let (code, text) = sealed.run(other).await;
            assert_eq!((code, text.as_str()), (0, "1234\n2345\n2345 7\nCapEff:\t0000000000000000\n"));
        } else {
            let refused = sealed.init().await.start(other).await.expect_err("refused").to_string();
            assert!(refused.contains("only root can start services as other users"), "{refused}");
        }
        sealed.shut_down().await;
    });
}

#[test]
fn limits_hold_in_a_seal() {
    as_everyone("seal::inside::limits_hold_in_a_seal", async |_| {
        let cgroups = sinew_node::cgroup::Cgroups::detect();
        let limits = sinew_spec::application::Limits {
            cpu_milli: Some(500),
            memory_bytes: Some(64 << 20),
            pids: Some(20),
            pids_unlimited: false,
        };
        if let Err(error) = cgroups.check(&limits) {
            assert!(error.to_string().contains("; run as root"), "{error}");
            return;
        }
        let application = format!("seal-test-{}", std::process::id());
        let mut spec = plain();
        spec.cgroups = cgroups.create(&application, "a-1", &limits).expect("create");
        let sealed = Sealed::new("limits", &spec).await;
        let forks = "import os, time
try:
    for n in range(100):
        if os.fork() == 0:
            time.sleep(99)
except BlockingIOError:
    print('limited after', n, flush=True)
    os.killpg(0, 9)";
        let (code, text) = sealed.exec(&["python3", "-c", forks]).await;
        assert!(code == 137 && text.starts_with("limited after 1"), "{code} {text}");
        let (code, text) = sealed.exec(&["python3", "-c", "x = bytearray(200 << 20)"]).await;
        assert_eq!(code, 137, "killed for its memory, and the init lives: {text}");
        let charged = cgroups.memory_bytes(&application, "a-1").expect("counted");
        assert!(charged > 0 && charged <= 64 << 20, "{charged}");
        sealed.shut_down().await;
        cgroups.remove(&application, "a-1").await.expect("remove");
        assert!(spec.cgroups.iter().all(|folder| !folder.exists()));
    });
}

/// Builds a seal, says its pid, and waits to be killed.
#[test]
fn a_launcher_to_be_killed() {
    let Some(lifeline) = std::env::var_os(LAUNCHER) else { return };
    run(
        async |_| {
            let mut spec = plain();
            spec.lifeline = lifeline == "1";
            let sealed = Sealed::new("killed", &spec).await;
            sealed
                .init()
                .await
                .start(command(&["sh", "-c", "sleep 1000 & sleep 1000"]))
                .await
                .expect("start");
            println!("\nSEAL {} {}", sealed.seal.init_pid, sealed.seal.started_ticks().expect("started"));
            std::future::pending::<()>().await;
        },
        User::Own,
    );
}

const LAUNCHER: &str = "SINEW_TEST_LAUNCHER";

/// A launcher of its own process: its seal, when it was killed.
fn killed_launcher(lifeline: &str) -> (Seal, PathBuf) {
    use std::io::BufRead;
    let mut launcher = std::process::Command::new(std::env::current_exe().expect("own program"))
        .args(["seal::inside::a_launcher_to_be_killed", "--exact", "--nocapture"])
        .env(LAUNCHER, lifeline)
        .env(AGAIN, program())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start a launcher");
    let output = std::io::BufReader::new(launcher.stdout.take().expect("piped"));
    let line = output.lines().map_while(Result::ok).find(|line| line.starts_with("SEAL ")).expect("a seal");
    let mut numbers = line.split(' ').skip(1).map(|number| number.parse::<u64>().expect("number"));
    let (pid, ticks) = (numbers.next().expect("pid"), numbers.next().expect("ticks"));
    let seal = Seal::adopt(pid as i32, ticks).expect("adopt").expect("it lives");
    assert!(Seal::adopt(pid as i32, ticks + 1).expect("adopt").is_none(), "another process");
    launcher.kill().expect("kill -9");
    launcher.wait().expect("wait");
    let folder = PathBuf::from(format!("/tmp/snseal{}-killed", launcher.id()));
    (seal, folder)
}

/// Inits of an instance's folder.
fn processes(folder: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let title = folder.display().to_string();
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&title)
    })
    .collect()
}

#[test]
fn a_seal_ends_with_its_lifeline() {
    as_everyone("seal::inside::a_seal_ends_with_its_lifeline", async |_| {
        let (seal, folder) = killed_launcher("1");
        seal.wait().await.expect("its end");
        crate::harness::until("no process left", Duration::from_secs(5), || {
            processes(&folder).is_empty().then_some(())
        });
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(folder.to_str().expect("text")));
        fs::remove_dir_all(folder).expect("clean");
    });
}

#[test]
fn a_seal_without_lifeline_outlives_its_launcher() {
    as_everyone("seal::inside::a_seal_without_lifeline_outlives_its_launcher", async |_| {
        let (seal, folder) = killed_launcher("0");
        let init = InitClient::connect(&folder.join("init.sock")).await.expect("it answers");
        assert!(matches!(init.status().await, Ok(ServiceState::Running { .. })));
        init.standing_sockets().await.expect("sockets");
        init.tell(&InitRequest::Shutdown).await.expect("shut down");
        seal.wait().await.expect("its end");
        fs::remove_dir_all(folder).expect("clean");
    });
}

#[test]
fn the_binary_cannot_be_written_through_an_init() {
    use nix::sys::statvfs::{FsFlags, fstatvfs};
    as_everyone("seal::inside::the_binary_cannot_be_written_through_an_init", async |_| {
        let sealed = Sealed::new("binary", &plain()).await;
        // A script that is interpreted by "itself" runs the program of who executes it: the init's. It is the binary
        // then, with everybody's arguments; what counts is that it comes from a read-only mount.
        let (code, _) =
            sealed.exec(&["sh", "-c", "printf '#!/proc/self/exe\\n' >/tmp/x; chmod 755 /tmp/x"]).await;
        assert_eq!(code, 0);
        let (_, said) = sealed.exec(&["/tmp/x", "version"]).await;
        assert!(!said.is_empty(), "the binary itself answers");
        // Only root may look.
        if let Ok(running) = File::open(format!("/proc/{}/exe", sealed.seal.init_pid)) {
            let flags = fstatvfs(&running).expect("look at its mount").flags();
            assert!(flags.contains(FsFlags::ST_RDONLY | FsFlags::ST_NOSUID), "{flags:?}");
            let on_host = fstatvfs(File::open(program()).expect("binary")).expect("look").flags();
            assert!(!on_host.contains(FsFlags::ST_RDONLY), "it is the seal's mount that is read-only");
        }
        sealed.shut_down().await;
    });
}

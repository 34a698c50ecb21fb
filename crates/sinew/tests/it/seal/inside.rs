//! What is in a seal and what becomes of it.

use super::*;

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

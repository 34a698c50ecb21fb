use super::*;

const NOWHERE: &str = "/nonexistent-cgroup";

fn mixed() -> String {
    format!(
        "33 31 0:30 / {NOWHERE}/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
         36 31 0:33 / {NOWHERE}/memory rw,relatime shared:4 - cgroup cgroup rw,memory\n\
         41 31 0:38 / {NOWHERE}/unified rw,relatime - cgroup2 cgroup2 rw\n"
    )
}

#[test]
fn mounts_are_told_apart() {
    let mounts = Mounts::parse(&mixed());
    assert_eq!(mounts.own.len(), 2);
    assert_eq!(mounts.unified, Some(format!("{NOWHERE}/unified").into()));
}

#[test]
fn the_own_path_is_that_of_the_controller() {
    let own = "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/user.slice\n";
    assert_eq!(own_path(own, "memory"), "/a/b");
    assert_eq!(own_path(own, "cpu"), "/c");
    assert_eq!(own_path(own, ""), "/user.slice");
    assert_eq!(own_path(own, "pids"), "/");
}

#[test]
fn what_is_impossible_says_what_to_do() {
    let check = |mounts: &str, limits: Limits, expected: &str| {
        let error = Cgroups::of(mounts, "0::/\n", false).check(&limits).expect_err("impossible").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("; "), "a hint: {error}");
    };
    let memory = Limits { memory_bytes: Some(1 << 20), ..Limits::default() };
    check(
        "",
        memory,
        "memory (deploy.resources.limits.memory) cannot be limited here: no cgroup file system",
    );
    check(&mixed(), memory, "version 1 and belong to root");
    check(
        &mixed(),
        Limits { pids: Some(5), ..Limits::default() },
        "does not offer the cgroup controller `pids`",
    );
    assert!(Cgroups::of("", "", false).check(&Limits::default()).is_ok(), "no limits need nothing");
}

/// With the cgroups of the host the tests run on; where they belong to others there is nothing to test.
#[tokio::test(flavor = "current_thread")]
async fn limits_are_set_and_leave_nothing() {
    let cgroups = Cgroups::detect();
    let limits =
        Limits { cpu_milli: Some(500), memory_bytes: Some(64 << 20), pids: Some(50), ..Limits::default() };
    if let Err(error) = cgroups.check(&limits) {
        println!("nothing to test here: {error}");
        return;
    }
    let application = format!("test-{}", std::process::id());
    let folders = cgroups.create(&application, "web-1", &limits).expect("create");
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
    for folder in &folders {
        fs::write(folder.join("cgroup.procs"), child.id().to_string()).expect("join");
    }
    assert_eq!(cgroups.instances(&application), ["web-1"]);
    assert!(cgroups.memory_bytes(&application, "web-1").is_some());
    // Killed by the removal, and no zombie that would keep the cgroup.
    let reaper = std::thread::spawn(move || child.wait().expect("wait"));
    cgroups.remove_application(&application).await.expect("remove");
    assert!(!reaper.join().expect("reaper").success());
    assert_eq!(cgroups.instances(&application), [""; 0]);
    assert!(folders.iter().all(|folder| !folder.exists()));
}

//! What a launcher that was killed leaves to the next one.

use super::*;

#[test]
fn what_a_launcher_that_was_killed_left_is_ended_by_the_next_down() {
    let compose = format!("services:\n  web:\n    command: [python3, web.py]\n    {HEALTH}\n");
    for user in users() {
        let sandbox = application(user, "orphans", &compose);
        sandbox.sinew(&["up", "-d"]).ok();
        // Killed between the birth of an instance and its being written down.
        let launcher = sandbox.processes().into_iter().find(|(_, line)| line.contains("__daemon"));
        kill(Pid::from_raw(launcher.expect("a launcher").0), Signal::SIGKILL).expect("kill it");
        std::fs::remove_file(sandbox.run().join("orphans/i/web-1/instance.json")).expect("its record");
        assert!(!sandbox.processes().is_empty());
        down(&sandbox);
    }
}

#[test]
fn what_has_completed_does_not_run_again_after_the_launchers_death() {
    let compose = |more: &str| {
        format!(
            "services:
  prepare:
    command: [sh, -c, 'echo prepare >> /data/runs']
    volumes: ['data:/data']
  late:
    command: [sh, -c, 'echo late >> /data/runs; until [ -e /data/go ]; do sleep 0.05; done']
    volumes: ['data:/data']
  fails:
    command: [sh, -c, 'echo fails >> /data/runs; until [ -e /data/fail ]; do sleep 0.05; done; exit 3']
    volumes: ['data:/data']
{more}volumes: {{ data: }}
"
        )
    };
    for user in users() {
        let sandbox = application(user, "once", &compose(""));
        sandbox.sinew(&["up", "-d"]).ok();
        let data = std::fs::read_dir(sandbox.state().join("once/volumes")).expect("volumes").next();
        let data = data.expect("a volume").expect("a volume").path();
        std::fs::write(data.join("fail"), "").expect("let it fail");
        becomes(&sandbox, "fails", &["fails-1 exited/none"]);
        becomes(&sandbox, "late", &["late-1 running/none"]);
        let late = pid(&instances(&sandbox, "late")[0], "service_pid");
        kill_launcher(&sandbox);
        // One of them ends while nobody looks.
        std::fs::write(data.join("go"), "").expect("let it end");
        until("it has ended", PATIENCE, || kill(late, None).is_err().then_some(()));

        let more = "  after:
    command: [sleep, '1000']
    depends_on:
      prepare: { condition: service_completed_successfully }
      late: { condition: service_completed_successfully }
";
        sandbox.write("compose.yaml", &compose(more));
        for _ in 0..2 {
            let up = sandbox.sinew(&["up", "-d"]);
            assert!(up.code == 1 && up.stderr.contains("`fails-1` does not come up"), "{}", up.stderr);
            becomes(&sandbox, "after", &["after-1 running/none"]);
            for (service, code) in [("prepare", 0), ("late", 0), ("fails", 3)] {
                becomes(&sandbox, service, &[&format!("{service}-1 exited/none")]);
                assert_eq!(instances(&sandbox, service)[0]["exit_code"], code);
            }
            kill_launcher(&sandbox);
        }
        let runs = || std::fs::read_to_string(data.join("runs")).expect("what ran");
        let mut once: Vec<String> = runs().lines().map(str::to_owned).collect();
        once.sort();
        assert_eq!(once, ["fails", "late", "prepare"]);
        // Only who asks for it gets it again.
        sandbox.sinew(&["up", "-d"]);
        sandbox.sinew(&["restart", "prepare"]).ok();
        assert_eq!(runs().matches("prepare").count(), 2, "once more, and not twice");
        down(&sandbox);
    }
}

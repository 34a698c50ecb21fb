//! The cold store, from its own tests to a running mesh: up within its limit, every labelled fault an alarm, nothing left.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stage::{Failed, cargo, output, root, run, target_folder};

/// All services healthy, after the builds.
const UP_SECONDS_MAX: f64 = 5.0;
/// Four times as fast as for people.
const TICK_MS: &str = "50";

pub fn run_all() -> Result<(), Failed> {
    let folder = root().join("examples/cold-store");
    run(Command::new("python3").arg("test.py").current_dir(&folder))?;
    run(cargo().args(["build", "--locked", "--quiet"]))?;
    let scratch = PathBuf::from(format!("/tmp/snx{}", std::process::id()));
    let made = std::fs::create_dir(&scratch);
    made.map_err(|e| Failed::new(format!("make {}: {e}", scratch.display())))?;
    let outcome = mesh(&folder, &scratch);
    let _ = std::fs::remove_dir_all(&scratch);
    outcome
}

fn mesh(folder: &Path, scratch: &Path) -> Result<(), Failed> {
    let port = free_port()?.to_string();
    let sinew = |arguments: &[&str]| {
        let mut command = Command::new(target_folder().join("debug/sinew"));
        command
            .args(arguments)
            .current_dir(folder)
            .env("SINEW_RUN_DIR", scratch.join("r"))
            .env("SINEW_STATE_DIR", scratch.join("s"))
            .env("OPERATOR_PORT", &port)
            .env("TICK_MS", TICK_MS);
        command
    };
    let outcome = up(&sinew(&["up", "-d"])).and_then(|()| {
        let page = format!("http://127.0.0.1:{port}");
        run(Command::new("python3").args(["check.py", "--seconds", "150", &page]).current_dir(folder))
    });
    if outcome.is_err() {
        let _ = run(&mut sinew(&["status"]));
        let _ = run(&mut sinew(&["logs", "--tail", "20"]));
    }
    run(&mut sinew(&["down", "-v"]))?;
    outcome?;
    match left(&scratch.join("r")) {
        0 => Ok(()),
        count => Err(Failed::new(format!("{count} files of the run folder outlived `down`"))),
    }
}

/// The last lines say how long it took: "12 services (14 instances) up in 2.1s".
fn up(command: &Command) -> Result<(), Failed> {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args()).current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let text = output(&mut again)?;
    print!("{text}");
    let seconds =
        text.rsplit(" up in ").next().and_then(|rest| rest.split('s').next()?.trim().parse::<f64>().ok());
    match seconds {
        Some(seconds) if seconds <= UP_SECONDS_MAX => Ok(()),
        Some(seconds) => Err(Failed::new(format!("up took {seconds} s, more than {UP_SECONDS_MAX} s"))),
        None => Err(Failed::new("up did not say how long it took")),
    }
}

fn free_port() -> Result<u16, Failed> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|e| Failed::new(format!("find a free port: {e}")))
}

fn left(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { left(&entry.path()) } else { 1 }).sum()
}

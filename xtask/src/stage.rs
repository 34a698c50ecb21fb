//! Stages with their minutes, and the commands they run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Failed(String);

impl Failed {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Default)]
pub struct Stages(Vec<(&'static str, Duration)>);

impl Stages {
    pub fn run(
        &mut self,
        name: &'static str,
        stage: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        eprintln!("── {name}");
        let start = Instant::now();
        let outcome = stage();
        self.0.push((name, start.elapsed()));
        outcome.map_err(|failed| Failed(format!("{name}: {failed}")))
    }

    pub fn print(&self) {
        for (name, time) in &self.0 {
            println!("{name:<12} {:>5.1} min", time.as_secs_f64() / 60.0);
        }
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

pub fn run(command: &mut Command) -> Result<(), Failed> {
    let text = show(command);
    eprintln!("$ {text}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failed(format!("`{text}`: {status}"))),
        Err(e) => Err(Failed(format!("`{text}` could not be started: {e}"))),
    }
}

pub fn output(command: &mut Command) -> Result<String, Failed> {
    let text = show(command);
    let output = command.output().map_err(|e| Failed(format!("`{text}` could not be started: {e}")))?;
    if !output.status.success() {
        return Err(Failed(format!(
            "`{text}`: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    String::from_utf8(output.stdout).map_err(|_| Failed(format!("`{text}` printed what is not UTF-8")))
}

fn show(command: &Command) -> String {
    let name =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(name, |line, word| line + " " + &word.to_string_lossy())
}

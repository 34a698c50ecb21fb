//! What a message costs the engines, in instructions: the same number on every run of one toolchain, however busy the
//! machine is.

use std::process::Command;

use crate::stage::{Failed, cargo, output, root, run, target_folder};

/// Figures that are checked in, and how far one may be off, in percent. More is a regression; less means that the file
/// has to follow, or the next regression hides in what was won.
const FILE: &str = "crates/wire/instructions.txt";
const OFF_PERCENT_MAX: f64 = 3.0;
const UPDATE: &str = "SINEW_UPDATE_INSTRUCTIONS";

/// A run of this many messages less one of that many leaves out what starting costs.
const MANY: u32 = 1_920;
const FEW: u32 = 640;

pub fn check() -> Result<(), Failed> {
    if !cfg!(target_arch = "x86_64") {
        println!("the figures are those of x86_64: nothing to compare with here");
        return Ok(());
    }
    run(cargo().args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "xtask",
        "--bin",
        "engines",
    ]))?;
    let path = root().join(FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| Failed::new(format!("read {FILE}: {e}")))?;
    let (mut measured, mut problems) = (String::new(), Vec::new());
    for (engine, expected) in figures(&text)? {
        let count = (instructions(&engine, MANY)? - instructions(&engine, FEW)?) / u64::from(MANY - FEW);
        let off = (count as f64 / expected as f64 - 1.0) * 100.0;
        println!("{engine:<16} {count:>6} instructions ({off:+.1} % of {expected})");
        measured += &format!("{engine} {count}\n");
        if off.abs() > OFF_PERCENT_MAX {
            problems.push(format!("{engine}: {count} instructions, {expected} in {FILE}: {off:+.1} %"));
        }
    }
    if std::env::var_os(UPDATE).is_some() {
        return std::fs::write(&path, measured).map_err(|e| Failed::new(format!("write {FILE}: {e}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.push(format!("if that is meant: {UPDATE}=1 cargo xtask instructions"));
    Err(Failed::new(problems.join("\n")))
}

/// Lines `engine count`, in the order of the file.
fn figures(text: &str) -> Result<Vec<(String, u64)>, Failed> {
    let figure = |line: &str| {
        let (engine, count) = line.split_once(' ')?;
        Some((engine.to_owned(), count.parse().ok()?))
    };
    text.lines()
        .map(|line| figure(line).ok_or_else(|| Failed::new(format!("{FILE}: `{line}` is no figure"))))
        .collect()
}

fn instructions(engine: &str, messages: u32) -> Result<u64, Failed> {
    let program = target_folder().join("release/engines");
    let log = target_folder().join("callgrind.log");
    output(
        Command::new("/usr/bin/valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(format!("--log-file={}", log.display()))
            .arg(program)
            .args(["count", engine, &messages.to_string()])
            // What the C library does depends on how large its environment is.
            .env_clear(),
    )?;
    let text =
        std::fs::read_to_string(&log).map_err(|e| Failed::new(format!("read {}: {e}", log.display())))?;
    let collected = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.ok_or_else(|| Failed::new(format!("callgrind said nothing of instructions:\n{text}")))
}

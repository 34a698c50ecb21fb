//! The project's own chores: `cargo xtask test` is what a contributor and CI run; the rest are its stages and the heavy
//! scenarios that CI leaves out.

mod example;
mod instructions;
mod packages;
mod stage;
mod tidy;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use stage::{Failed, Stages, cargo, run, target_folder};

const USAGE: &str = "\
cargo xtask COMMAND

  test       everything CI runs: installs what tests need (only when missing), then fmt, tidy, lint, instructions,
             unit, integration and example tests
  ci         the same as test
  fmt        formatting
  tidy       import table, file sizes, words that must not be in the tree
  lint       clippy, warnings denied
  unit       cargo test of every crate
  example    unit tests of examples/, then the cold store from `sinew up` to its last labelled fault
  size       size of the release binary, and the memory of a mesh of nine of it, against their limits
  instructions
             what a message costs the engines, against crates/wire/instructions.txt
  explore    generated tests with other inputs in every run, for MINUTES (default 5)
  scenarios  the integration tests with the release binary
  bench      what a request costs, beside Envoy, nginx and HAProxy; `cargo xtask bench --help`
  upgrades   another build takes over what runs, 20 times under load, two of which crash
  soak       10 million requests of all kinds, and what two sidecars hold afterwards; `cargo xtask soak --help`
  floods     hostile clients of each kind, and what others have of it; `cargo xtask floods --help`
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let mut stages = Stages::default();
    let outcome = match command.as_str() {
        "test" | "ci" => all(&mut stages),
        "fmt" => stages.run("fmt", fmt),
        "tidy" => stages.run("tidy", tidy::check),
        "lint" => stages.run("lint", lint),
        "unit" => stages.run("unit", unit),
        "example" => {
            stages.run("packages", packages::install).and_then(|()| stages.run("example", example::run_all))
        }
        "size" => {
            stages.run("size", size).and_then(|()| stages.run("memory", || release_tests(&["memory::"])))
        }
        "scenarios" => stages
            .run("packages", packages::install)
            .and_then(|()| stages.run("size", size))
            .and_then(|()| stages.run("scenarios", || release_tests(&[]))),
        "instructions" => stages
            .run("packages", packages::install)
            .and_then(|()| stages.run("instructions", instructions::check)),
        "explore" => stages.run("explore", explore),
        "bench" => stages.run("bench", || bench(&[])),
        "upgrades" => {
            stages.run("packages", packages::install).and_then(|()| stages.run("upgrades", upgrades))
        }
        "soak" => stages.run("soak", || bench(&["soak"])),
        "floods" => stages.run("floods", || bench(&["floods"])),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    stages.print();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("xtask {command}: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn all(stages: &mut Stages) -> Result<(), Failed> {
    stages.run("packages", packages::install)?;
    stages.run("fmt", fmt)?;
    stages.run("tidy", tidy::check)?;
    stages.run("lint", lint)?;
    stages.run("instructions", instructions::check)?;
    stages.run("unit", unit)?;
    stages.run("example", example::run_all)
}

fn fmt() -> Result<(), Failed> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn lint() -> Result<(), Failed> {
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Nothing needs protoc or cmake to build; naming programs that do not exist proves it.
///
/// Generated tests look at the same inputs in every run, so that what lands does not depend on luck; `explore` looks
/// at others.
fn unit() -> Result<(), Failed> {
    let outcome = run(cargo()
        .args(["test", "--workspace", "--locked", "--quiet"])
        .env("PROPTEST_RNG_SEED", "9113")
        .env("PROTOC", "/nonexistent")
        .env("CMAKE", "/nonexistent"));
    sweep();
    outcome
}

/// Another build takes over twenty times, under load.
fn upgrades() -> Result<(), Failed> {
    let outcome = run(cargo().args(["test", "--locked", "--package", "sinew", "--test", "it", "--"]).args([
        "--ignored",
        "--nocapture",
        "--test-threads=1",
        "handover::",
        "swaps::",
    ]));
    sweep();
    outcome
}

/// The crates whose tests generate inputs, again and again; a failure names the seed that brings it back.
fn explore() -> Result<(), Failed> {
    let minutes = match std::env::args().nth(2) {
        None => 5,
        Some(text) => text.parse().map_err(|_| Failed::new(format!("`{text}` is no number of minutes")))?,
    };
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for seed in since_epoch.as_secs().. {
        let tests = run(cargo()
            .args(["test", "--locked", "--quiet", "-p", "sinew-spec", "-p", "sinew-wire"])
            .args(["-p", "sinew-control", "-p", "sinew-ca"])
            .env("PROPTEST_RNG_SEED", seed.to_string()));
        tests.map_err(|failed| Failed::new(format!("{failed}; again with PROPTEST_RNG_SEED={seed}")))?;
        if Instant::now() > end {
            break;
        }
    }
    Ok(())
}

/// Integration tests copy the binary to where every user can execute it; a test run has no last moment of its own.
fn sweep() {
    for entry in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("snbin")?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn release_tests(filter: &[&str]) -> Result<(), Failed> {
    run(cargo()
        .args([
            "test",
            "--locked",
            "--package",
            "sinew",
            "--test",
            "it",
            "--",
            "--test-threads=1",
            "--nocapture",
        ])
        .args(filter)
        .env("SINEW_TEST_BINARY", release_binary()))
}

fn release_binary() -> std::path::PathBuf {
    target_folder().join("release/sinew")
}

/// Its own arguments are all that follow.
/// `words` come before those of the command line.
fn bench(words: &[&str]) -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let wants_help = arguments.iter().any(|word| matches!(word.as_str(), "-h" | "--help"));
    if !wants_help && !arguments.iter().any(|word| word == "--sinew") {
        run(cargo().args(["build", "--release", "--locked", "--package", "sinew"]))?;
    }
    run(cargo()
        .args(["run", "--release", "--locked", "--quiet", "--package", "sinew-bench", "--"])
        .args(words)
        .args(arguments))
}

/// MB as disks count them.
const RELEASE_BYTES_MAX: u64 = 20_000_000;

fn size() -> Result<(), Failed> {
    run(cargo().args(["build", "--release", "--locked"]))?;
    let binary = release_binary();
    let bytes =
        std::fs::metadata(&binary).map_err(|e| Failed::new(format!("read {}: {e}", binary.display())))?.len();
    println!("release binary: {:.1} MB (limit {:.1} MB)", bytes as f64 / 1e6, RELEASE_BYTES_MAX as f64 / 1e6);
    if bytes > RELEASE_BYTES_MAX { Err(Failed::new("the release binary is over its limit")) } else { Ok(()) }
}

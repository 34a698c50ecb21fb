//! What the tests need besides Rust, a C compiler and Python 3: installed only when missing.

use std::path::Path;
use std::process::Command;

use crate::stage::{Failed, run, target_folder};

/// A program that a test starts, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("h2load", "nghttp2-client"),
    ("haproxy", "haproxy"),
    ("mariadbd", "mariadb-server"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("nats-server", "nats-server"),
    ("openssl", "openssl"),
    ("podman", "podman"),
    ("redis-cli", "redis-tools"),
    ("redis-server", "redis-server"),
    ("runc", "runc"),
    ("systemd-analyze", "systemd"),
    ("testssl", "testssl.sh"),
    ("valgrind", "valgrind"),
];

/// gRPC as another implementation speaks it, from PyPI: a wheel, so that nothing is built.
const GRPCIO: &[&str] = &["grpcio==1.85.1", "typing-extensions==4.15.0"];

/// gRPC and WebSocket as Node.js speaks them, from npm: JavaScript alone, no script of theirs is run.
const NODE: &[&str] = &["@grpc/grpc-js@1.14.7", "ws@8.23.0"];

pub fn install() -> Result<(), Failed> {
    components()?;
    debian()?;
    fetched("python-grpcio", |partial| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]);
        pip.arg(partial).args(GRPCIO);
        pip
    })?;
    fetched("node", |partial| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
        npm.arg(partial).args(NODE);
        npm
    })
}

/// Into the target folder, where the tests look for it: nothing else on this machine sees it.
fn fetched(name: &str, fetch: impl FnOnce(&Path) -> Command) -> Result<(), Failed> {
    let temporary = target_folder().join("tmp");
    let folder = temporary.join(name);
    if folder.exists() {
        return Ok(());
    }
    // Under another name until it is whole.
    let partial = temporary.join(format!("{name}.partial"));
    std::fs::create_dir_all(&partial)
        .map_err(|error| Failed::new(format!("make {}: {error}", partial.display())))?;
    run(&mut fetch(&partial))?;
    std::fs::rename(&partial, &folder)
        .map_err(|error| Failed::new(format!("rename {}: {error}", partial.display())))
}

fn debian() -> Result<(), Failed> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !on_path("apt-get") || !is_root() {
        return Err(Failed::new(format!(
            "the tests need these Debian packages: {}. Install them, or run this as root",
            missing.join(" ")
        )));
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    // A package must not start a server of its own: tests start theirs, on free ports.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let guarded = !policy.exists();
    if guarded {
        let text = "#!/bin/sh\nexit 101\n";
        std::fs::write(policy, text).map_err(|e| Failed::new(format!("write {}: {e}", policy.display())))?;
        run(Command::new("chmod").args(["755", "/usr/sbin/policy-rc.d"]))?;
    }
    let outcome = run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::process::Stdio::null()));
    if guarded {
        let _ = std::fs::remove_file(policy);
    }
    outcome
}

/// The toolchain file names them; a toolchain installed without rustup has to bring them itself.
fn components() -> Result<(), Failed> {
    for tool in ["cargo-fmt", "cargo-clippy"] {
        if !on_path(tool) {
            return Err(Failed::new(format!("{tool} is missing: rustup component add rustfmt clippy")));
        }
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).exists())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

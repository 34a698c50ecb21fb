//! The hostile service: everything it tries must fail, and what is outside must be as before.

use std::net::TcpListener;

use sinew_spec::seal::SealMount;

use super::*;

const PROBE: &str = include_str!("probe.py");
const SECRET: &str = "correct-horse-battery-staple";

#[test]
fn a_hostile_service_gets_nowhere() {
    as_everyone("seal::probe::a_hostile_service_gets_nowhere", async |user| {
        // Another service, with a secret in its environment, in a file and on a volume.
        let other_volume = folder("other-volume");
        fs::write(other_volume.join("data"), SECRET).expect("write");
        let mut other = plain();
        other.files.push(script("run/secrets/token", SECRET));
        let volume = |source: &Path| SealMount {
            source: source.into(),
            target: "/data".into(),
            read_only: false,
            masked: None,
            covered: Vec::new(),
        };
        other.mounts.push(volume(&other_volume));
        let other = Sealed::new("other", &other).await;
        let mut sleep = command(&["sleep", "1000"]);
        sleep.environment.insert("TOKEN".to_owned(), SECRET.to_owned());
        other.init().await.start(sleep).await.expect("start");

        // What a host has: a process, a listener, an abstract socket.
        let host = std::process::Command::new("sleep").arg("1000").spawn();
        let mut host = host.expect("a process of the host");
        let listener = TcpListener::bind("0.0.0.0:0").expect("listener");
        let abstract_name = format!("@sinew-probe-{}", std::process::id());
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name[1..]).expect("name");
        let _abstract = UnixListener::bind_addr(&address).expect("abstract listener");

        let own_volume = folder("own-volume");
        // The probe's project lies beside the other volume, which is masked as the launcher does it.
        let mut spec = plain();
        spec.mounts.push(volume(&own_volume));
        spec.shown.push("/usr/share".into());
        spec.masked = vec![other_volume.clone(), other.folder.clone()];
        // A project with something hidden in it, which lies below a mount that no path leads to.
        let project = folder("probe-project");
        fs::write(project.join("key"), SECRET).expect("write");
        fs::write(project.join("app.py"), "").expect("write");
        spec.shown.push(project.clone());
        spec.mounts.push(SealMount {
            source: project.clone(),
            target: "/app".into(),
            read_only: false,
            masked: None,
            covered: Vec::new(),
        });
        spec.masked.push(project.join("key"));
        spec.files.push(script("probe.py", PROBE));
        let sealed = Sealed::new("probe", &spec).await;
        let mut probe = command(&["python3", "/probe.py"]);
        let others =
            [&other_volume, &other.folder, &sealed.folder].map(|path| path.display().to_string()).join(":");
        for (name, value) in [
            ("PROBE_HOST_PID", host.id().to_string()),
            ("PROBE_OTHERS", others),
            ("PROBE_PROJECT", project.display().to_string()),
            // Reversed, or it would find itself.
            ("PROBE_SECRET", SECRET.chars().rev().collect()),
            ("PROBE_ABSTRACT", abstract_name.clone()),
            ("PROBE_HOST_ADDRESS", "127.0.0.2".to_owned()),
            ("PROBE_HOST_PORT", listener.local_addr().expect("address").port().to_string()),
        ] {
            probe.environment.insert(name.to_owned(), value);
        }
        let (code, text) = sealed.run(probe).await;
        println!("{user:?}\n{text}");
        assert_eq!(
            code,
            0,
            "{user:?}: {:?}",
            text.lines().filter(|l| !l.starts_with("held: ")).collect::<Vec<_>>()
        );
        assert!(text.ends_with("ALL HELD\n"));
        assert!(text.matches("held: ").count() > 150, "every attempt is told");

        assert!(host.try_wait().expect("look").is_none(), "the host's process lives");
        assert!(matches!(other.init().await.status().await, Ok(ServiceState::Running { .. })));
        assert_eq!(fs::read_to_string(other_volume.join("data")).expect("volume"), SECRET);
        host.kill().expect("kill");
        host.wait().expect("wait");
        sealed.shut_down().await;
        other.shut_down().await;
        for folder in [other_volume, own_volume, project] {
            fs::remove_dir_all(folder).expect("clean");
        }
    });
}

//! What a service sees of the host's files, and what it may write.

use sinew_spec::seal::SealMount;

use super::*;

fn mount(source: &Path, target: &str, read_only: bool) -> SealMount {
    SealMount { source: source.into(), target: target.into(), read_only, masked: None, covered: Vec::new() }
}

#[test]
fn what_is_given_is_there_and_nothing_else() {
    as_everyone("seal::files::what_is_given_is_there_and_nothing_else", async |_| {
        let host = folder("host");
        for name in ["project/src", "project/secrets", "volume", "fixed"] {
            fs::create_dir_all(host.join(name)).expect("folder");
        }
        for name in ["project/src/main.py", "project/secrets/key", "project/compose.yaml", "fixed/file"] {
            fs::write(host.join(name), format!("content of {name}")).expect("file");
        }
        let _socket = UnixListener::bind(host.join("project/src/dev.sock")).expect("socket");
        std::os::unix::fs::symlink(host.join("project"), host.join("link")).expect("link");
        let project = host.join("project").display().to_string();

        let mut spec = plain();
        spec.shown = vec![host.join("project"), host.join("link")];
        spec.masked =
            vec![host.join("project/secrets"), host.join("project/compose.yaml"), "/not/there".into()];
        spec.mounts = vec![
            mount(&host.join("volume"), "/data", false),
            mount(&host.join("fixed"), "/deep/er/fixed", true),
            mount(&host.join("project"), "/app", false),
        ];
        spec.tmpfs = vec!["/cache".into()];
        spec.devices = vec![mount(Path::new("/dev/null"), "/dev/nothing", false)];
        spec.files.push(script("run/secrets/token", "a secret"));
        let sealed = Sealed::new("files", &spec).await;

        let content = sealed.output(&["cat", &format!("{project}/src/main.py")]).await;
        assert_eq!(content, "content of project/src/main.py");
        let link = host.join("link/src/main.py").display().to_string();
        assert_eq!(sealed.output(&["cat", &link]).await, content, "through the link, as on the host");
        assert_eq!(sealed.output(&["cat", "/run/secrets/token"]).await, "a secret");
        sealed
            .output(&[
                "sh",
                "-c",
                "echo new >/data/file; echo x >/cache/x; echo x >/dev/nothing; echo x >/app/src/new",
            ])
            .await;
        assert_eq!(fs::read_to_string(host.join("volume/file")).expect("on the host"), "new\n");
        for (what, script) in [
            ("write the project", format!("echo x >{project}/src/new2")),
            ("write a read-only mount", "echo x >/deep/er/fixed/file".to_owned()),
            ("read what is masked", format!("cat {project}/compose.yaml | grep .")),
            ("list what is masked", format!("ls {project}/secrets/* 2>/dev/null")),
            ("read what is masked, elsewhere", "cat /app/compose.yaml | grep .".to_owned()),
            ("list what is masked, elsewhere", "ls /app/secrets/* 2>/dev/null".to_owned()),
            ("see a socket of the project", format!("test -S {project}/src/dev.sock")),
            ("see what lies beside", format!("ls -d {}/volume", host.display())),
            ("write a secret", "echo x >/run/secrets/token".to_owned()),
            ("write the root", "echo x >/x".to_owned()),
            ("execute from a device folder", "cp /bin/true /dev/shm/../x".to_owned()),
        ] {
            let (code, text) = sealed.exec(&["sh", "-c", &script]).await;
            assert_ne!(code, 0, "{what}: {text}");
        }
        sealed.shut_down().await;
        fs::remove_dir_all(host).expect("clean");
    });
}

#[test]
fn what_cannot_be_given_is_refused_with_a_reason() {
    as_everyone("seal::files::what_cannot_be_given_is_refused_with_a_reason", async |_| {
        let check = async |name: &str, change: fn(&mut SealSpec), expected: &str| {
            let mut spec = plain();
            change(&mut spec);
            let error = Sealed::try_new(name, &spec).await.err().expect("refused");
            assert!(error.contains(expected), "{error}");
        };
        check(
            "missing",
            |s| s.mounts.push(mount(Path::new("/not/there"), "/data", false)),
            "open /not/there: No such file",
        )
        .await;
        check(
            "place",
            |s| s.mounts.push(mount(Path::new("/usr"), "/proc/no/such", false)),
            "make /proc/no inside the seal: ",
        )
        .await;
        check(
            "device",
            |s| s.devices.push(mount(Path::new("/dev/null"), "/dev/x", true)),
            "device /dev/null: a device cannot be given for reading alone",
        )
        .await;
        check("root", |s| s.shown.push("/".into()), "the whole host cannot be shown").await;
        check("cgroup", |s| s.cgroups.push("/not/a/cgroup".into()), "join cgroup /not/a/cgroup").await;
        let left = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!left.contains("snseal"), "no mount is left on the host");
    });
}

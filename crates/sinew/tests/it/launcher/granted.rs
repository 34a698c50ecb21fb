//! What a service is given: environment, volumes, configs, secrets.

use super::*;

#[test]
fn a_service_gets_the_environment_of_the_file_and_volumes_that_last() {
    let compose = "services:
  box:
    command: [sleep, '1000']
    environment: { MINE: 'yes' }
    volumes: ['data:/data']
volumes: { data: }
";
    for user in users() {
        let sandbox = application(user, "boxed", compose);
        sandbox.sinew(&["up", "-d"]).ok();
        let environment = sandbox.sinew(&["exec", "box", "--", "cat", "/proc/1/environ", "/proc/2/environ"]);
        assert!(!environment.stdout.contains("SINEW_RUN_DIR"), "{}", environment.stdout);
        let environment = sandbox.sinew(&["exec", "box", "--", "env"]).ok().stdout;
        let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
        for name in &names {
            assert!(["HOME", "HOSTNAME", "MINE", "PATH", "TERM"].contains(name), "{names:?}");
        }
        sandbox.sinew(&["exec", "box", "--", "sh", "-c", "echo kept > /data/file"]).ok();
        down(&sandbox);
        sandbox.sinew(&["up", "-d"]).ok();
        let kept = sandbox.sinew(&["exec", "box", "--", "cat", "/data/file"]).ok().stdout;
        assert_eq!(kept.trim(), "kept");
        sandbox.sinew(&["down", "-v"]).ok();
        sandbox.sinew(&["up", "-d"]).ok();
        assert_ne!(sandbox.sinew(&["exec", "box", "--", "cat", "/data/file"]).code, 0, "the volume is new");
        down(&sandbox);
    }
}

#[test]
fn a_changed_content_replaces_whom_it_is_granted_to() {
    let compose = "services:
  web:
    command: [sleep, '1000']
    configs: [settings]
    secrets: [key]
    env_file: [web.env]
  other:
    command: [sleep, '1000']
configs: { settings: { file: settings.txt } }
secrets: { key: { environment: KEY } }
";
    let sandbox = application(User::Own, "contents", compose);
    sandbox.write("settings.txt", "one");
    sandbox.write("web.env", "MINE=one");
    let up = |secret: &str| {
        let done = sandbox.command(&["up", "-d"]).env("KEY", secret).output().expect("start the binary");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        said
    };
    let seen = || {
        let show = "cat /settings /run/secrets/key; echo $MINE";
        sandbox.sinew(&["exec", "web", "--", "sh", "-c", show]).ok().stdout
    };
    up("1111");
    let other = instances(&sandbox, "other").remove(0);
    assert_eq!(seen(), "one1111one\n");
    assert!(up("1111").contains("nothing changed"));

    sandbox.write("settings.txt", "two");
    let said = up("1111");
    assert!(said.contains("~ web (configs): its instances are replaced"), "{said}");
    assert_eq!(seen(), "two1111one\n");
    let said = up("2222");
    assert!(said.contains("~ web (secrets): its instances are replaced"), "{said}");
    assert_eq!(seen(), "two2222one\n");
    sandbox.write("web.env", "MINE=two");
    let said = up("2222");
    assert!(said.contains("~ web (environment): its instances are replaced"), "{said}");
    assert_eq!(seen(), "two2222two\n");

    // A launcher that takes over compares with what the one before it started.
    // The one that was replaced is shown until it has ended.
    let web = until("one instance is left", PATIENCE, || {
        let mut web = instances(&sandbox, "web");
        (web.len() == 1 && web[0]["service_pid"].is_number()).then(|| web.remove(0))
    });
    kill_launcher(&sandbox);
    up("2222");
    assert_eq!(instances(&sandbox, "web")[0]["service_pid"], web["service_pid"]);
    kill_launcher(&sandbox);
    sandbox.write("settings.txt", "three");
    up("2222");
    assert_eq!(seen(), "three2222two\n");
    assert_eq!(instances(&sandbox, "other")[0]["service_pid"], other["service_pid"]);
    // Nothing that is kept tells the secret.
    let kept = std::fs::read_to_string(sandbox.run().join("contents/application.json")).expect("the record");
    assert!(!kept.contains("2222"), "{kept}");
    down(&sandbox);
}

#[test]
fn files_and_folders_have_their_place_where_the_host_has_none() {
    let compose = "services:
  box:
    command: [sleep, '1000']
    configs: [{ source: settings, target: /etc/cold-store/sub/process.json }, { source: settings, target: /etc/one }]
    secrets: [{ source: settings, target: /usr/share/cold-store.key }]
    volumes: ['data:/srv/data', 'data:/usr/lib/cold-store/data', './given:/opt/given/here:ro']
    tmpfs: [/etc/cold-store/scratch]
configs: { settings: { content: granted } }
secrets: { settings: { file: settings.txt } }
volumes: { data: }
";
    for user in users() {
        let sandbox = application(user, "places", compose);
        sandbox.write("settings.txt", "secret");
        sandbox.write("given/file", "given");
        sandbox.sinew(&["up", "-d"]).ok();
        let run = |script: &str| sandbox.sinew(&["exec", "box", "--", "sh", "-c", script]);
        let read = run(
            "cat /etc/cold-store/sub/process.json /etc/one /usr/share/cold-store.key /opt/given/here/file",
        )
        .ok();
        assert_eq!(read.stdout, "grantedgrantedsecretgiven");
        run("echo kept > /srv/data/file && grep kept /usr/lib/cold-store/data/file && echo x > /etc/cold-store/scratch/x")
            .ok();
        // What was there is there, links and covers included, and stays the host's.
        run("grep root /etc/passwd && test -d /usr/share/zoneinfo -o -d /usr/share/doc && python3 -c 1").ok();
        let names = |folder: &str| {
            let own = ["cold-store", "cold-store.key", "one"];
            let listed: Vec<String> =
                run(&format!("ls -A {folder}")).ok().stdout.lines().map(str::to_owned).collect();
            listed.into_iter().filter(|name| !own.contains(&name.as_str())).collect::<Vec<_>>()
        };
        for folder in ["/etc", "/usr/share", "/usr/lib"] {
            let host: std::collections::BTreeSet<String> = std::fs::read_dir(folder)
                .expect("the host's folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            assert_eq!(
                names(folder).into_iter().collect::<std::collections::BTreeSet<_>>(),
                host,
                "{folder}"
            );
        }
        for (script, why) in [
            ("cat /etc/shadow | grep .", "what is hidden stays hidden"),
            ("echo x > /etc/passwd", "the host's files are read-only"),
            ("echo x > /etc/new", "so are its folders"),
            ("echo x > /etc/cold-store/new", "and what was made"),
            ("mv /etc/one /etc/two", "and what is granted"),
        ] {
            assert_ne!(run(script).code, 0, "{why}");
        }
        assert!(
            !std::path::Path::new("/etc/cold-store").exists() && !std::path::Path::new("/etc/one").exists()
        );
        down(&sandbox);
    }
}

use super::*;

fn facts() -> Facts {
    Facts {
        application: "shop".into(),
        is_user: false,
        program: "/usr/local/bin/sinew".into(),
        folder: "/srv/shop".into(),
        files: vec!["/srv/shop/compose.yaml".into()],
        profiles: Vec::new(),
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        mounts: vec!["/srv/shop".into(), "/var/lib/sinew".into()],
        has_containers: false,
        stop_grace_s: 20,
    }
}

#[test]
fn a_unit_of_the_system() {
    let rendered = render(&facts());
    let lines: Vec<&str> = rendered.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            "",
            "[Unit]",
            "Description=shop, run by Sinew",
            "After=local-fs.target network.target time-set.target time-sync.target podman.socket docker.socket",
            "RequiresMountsFor=/srv/shop /var/lib/sinew",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            "WorkingDirectory=/srv/shop",
            "Environment=PATH=/usr/bin:/bin",
            "ExecStart=/usr/local/bin/sinew up --supervised --no-build -p shop -C /srv/shop -f /srv/shop/compose.yaml",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "Restart=on-failure",
            "RestartSec=2",
            "KillMode=process",
            "TimeoutStartSec=15min",
            "TimeoutStopSec=50",
            "WatchdogSec=60",
            "Delegate=yes",
            "OOMPolicy=continue",
            "TasksMax=infinity",
            "NoNewPrivileges=yes",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
    );
}

#[test]
fn a_unit_of_a_user() {
    let rendered = render(&Facts { is_user: true, has_containers: true, ..facts() });
    for wanted in ["After=podman.socket\n", "Wants=podman.socket\n", "WantedBy=default.target\n"] {
        assert!(rendered.contains(wanted), "{wanted}{rendered}");
    }
    // `newuidmap` of a rootless engine gains privileges.
    assert!(!rendered.contains("NoNewPrivileges"));
}

#[test]
fn odd_names_stay_what_they_are() {
    for (text, quoted) in [
        ("/srv/shop", "/srv/shop"),
        ("/srv/my shop", "\"/srv/my shop\""),
        ("100%", "\"100%%\""),
        ("a\"b\\c", "\"a\\\"b\\\\c\""),
        ("a\nb", "\"a\\nb\""),
        ("", "\"\""),
    ] {
        assert_eq!(quote(text), quoted);
    }
    let rendered = render(&Facts { profiles: vec!["a$b".into()], folder: "/srv/a b%".into(), ..facts() });
    assert!(rendered.contains("--profile a$$b "), "{rendered}");
    assert!(rendered.contains("WorkingDirectory=/srv/a b%%\n"), "{rendered}");
}

#[test]
fn knows_its_own_units_from_edited_and_foreign_ones() {
    let ours = render(&facts());
    assert_eq!(judge(&ours), Present::Ours);
    assert_eq!(judge(&ours.replace("WatchdogSec=60", "WatchdogSec=90")), Present::Edited);
    assert_eq!(judge("[Unit]\nDescription=something else\n"), Present::Foreign);
    assert_eq!(judge(""), Present::Foreign);
}

#[test]
fn shows_what_differs() {
    assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), ["-b", "+x", "+d"]);
    assert_eq!(difference("a\n", "a\n"), Vec::<String>::new());
    assert_eq!(difference("", "a\n"), ["+a"]);
}

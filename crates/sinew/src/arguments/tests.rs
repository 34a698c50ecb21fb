use super::*;

#[test]
fn the_definition_holds_together() {
    Arguments::command().debug_assert();
}

#[test]
fn tips_are_put_in_our_words() {
    let check = |tip: &str, words: &str| assert_eq!(tip_in_words(tip), words);
    check("a similar subcommand exists: 'ps'", "did you mean `ps`?");
    check("some similar subcommands exist: 'start', 'status'", "did you mean `start` or `status`?");
    check("something else", "something else");
}

#[test]
fn habits_from_compose_are_answered() {
    let words = |typed: &str| typed.split(' ').map(OsString::from).collect::<Vec<_>>();
    let said = |typed: &str| {
        let error = Arguments::try_parse_from(words(typed)).expect_err("no such thing");
        format!("{:?}", explain(&error, &words(typed)))
    };
    for (typed, expect) in [
        ("sinew log web", "did you mean `sinew logs`?"),
        ("sinew rm -f", "`sinew down`"),
        ("sinew kill web", "`sinew stop SERVICE`"),
        ("sinew top", "`sinew status --watch`"),
        ("sinew run web sh", "`sinew exec SERVICE -- COMMAND`"),
        ("sinew pss", "did you mean `ps`?"),
        ("sinew restart -t 1 web", "`stop_grace_period`"),
        ("sinew down web", "`sinew stop SERVICE` ends one service"),
        ("sinew down --timeout=3", "`sinew down` takes no `--timeout`"),
        ("sinew up -d --no-deps web", "`sinew start SERVICE`"),
        ("sinew ps --format json", "`-o json` is the other format"),
        ("sinew exec -u root web sh", "`user:` in the file"),
        ("sinew --env-file x up", "`.env` beside the compose file"),
        ("sinew logs --until 5m", "`sinew logs --since TIME -t`"),
        ("sinew config -q", "`sinew check FILE`"),
    ] {
        assert!(said(typed).contains(expect), "{typed}: {}", said(typed));
    }
    assert!(!said("sinew restart -t 1 web").contains("to pass"), "{}", said("sinew restart -t 1 web"));
    for typed in [
        "sinew ps -a",
        "sinew down --remove-orphans -v",
        "sinew up -d --remove-orphans web api",
        "sinew up --build --force-recreate --scale web=3",
        "sinew up --wait",
        "sinew logs --tail 5 --since 10m --no-log-prefix web",
        "sinew logs -n 5 -f",
        "sinew --project-name shop ps -q",
        "sinew -f other.yaml logs -f",
        "sinew exec -T web env",
    ] {
        let parsed = Arguments::try_parse_from(words(typed));
        assert!(parsed.is_ok(), "{typed}: {:?}", parsed.err());
    }
    assert_eq!(help_as_option(words("sinew help logs")), words("sinew logs --help"));
    assert_eq!(help_as_option(words("sinew help")), words("sinew --help"));
    assert_eq!(help_as_option(words("sinew logs help")), words("sinew logs help"));
}

#[test]
fn every_command_shows_examples() {
    for command in Arguments::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Examples:\n  sinew "), "{}: {help:?}", command.get_name());
        assert!(command.get_about().is_some(), "{}", command.get_name());
    }
}

#[test]
fn the_format_is_known_even_when_parsing_failed() {
    let check = |typed: &str, format: Format| {
        let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
        assert_eq!(typed_format(&typed), format, "{typed:?}");
    };
    check("sinew ps -o json --nonsense", Format::Json);
    check("sinew --output=json pss", Format::Json);
    check("sinew -ojson", Format::Json);
    check("sinew ps -o text", Format::Text);
    check("sinew exec a -- tool -o json", Format::Text);
}

/// `docs/cli.md` is written from the definition: `SINEW_UPDATE_DOCS=1 cargo test -p sinew` writes it anew.
#[test]
fn the_docs_are_as_the_definition() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let now = document();
    if std::env::var_os("SINEW_UPDATE_DOCS").is_some() {
        std::fs::write(path, &now).expect("docs/cli.md can be written");
    }
    let kept = std::fs::read_to_string(path).expect("docs/cli.md exists");
    assert!(kept == now, "docs/cli.md is old: run the tests with SINEW_UPDATE_DOCS=1 and commit it");
}

fn document() -> String {
    let mut root = Arguments::command().term_width(100);
    root.build();
    let mut text = format!(
        "# The command line\n\nWritten by a test from the definition in `crates/sinew/src/arguments.rs`.\n\n\
         ```text\n{}```\n",
        root.render_long_help()
    );
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name().to_owned();
        let mut command = command.clone().bin_name(format!("sinew {name}"));
        text.push_str(&format!("\n## sinew {name}\n\n```text\n{}```\n", command.render_help()));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n"))
}

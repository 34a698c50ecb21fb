use sinew_spec::update::{Cause, ImageVersion};

use super::*;

fn version(digit: char) -> ImageVersion {
    let id = Digest::from_hex(&digit.to_string().repeat(64)).expect("hexadecimal");
    ImageVersion { id, digest: None }
}

fn request(services: &[&str]) -> UpdateRequest {
    let update = |service: &&str| ServiceUpdate {
        service: (*service).into(),
        reference: format!("{service}:1"),
        platform: "linux/amd64".to_owned(),
        from: version('a'),
        to: version('b'),
    };
    UpdateRequest {
        cause: Cause::Update,
        services: services.iter().map(update).collect(),
        resolved: "2026-11-21T10:49:45Z".to_owned(),
        watch_ms: 30_000,
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Plays an update of `a` and `b`. Each word of the script is what is seen: `ok` settled, `..` not yet, `x` trouble,
/// `+N` N seconds later; `nojournal`, `nolock`: an action fails. Gives the actions, in short.
#[track_caller]
fn check(script: &str, expected: &str) {
    let request = request(&["a", "b"]);
    let patience = vec![PATIENCE; request.services.len()];
    let mut update = Update::new(request, patience);
    let mut now = Instant::now();
    let mut said: Vec<String> = Vec::new();
    let mut play = |update: &mut Update, actions: Vec<Action>| {
        let mut keep = false;
        for action in actions {
            said.push(match &action {
                Action::Journal(Step::Replacing { service }) => format!("j({service})"),
                Action::Journal(Step::Watching) => "j(watch)".to_owned(),
                Action::Journal(Step::Keeping) => "j(keep)".to_owned(),
                Action::Journal(Step::TakingBack { .. }) => "j(back)".to_owned(),
                Action::Define(service, Side::New) => format!("{service}=new"),
                Action::Define(service, Side::Old) => format!("{service}=old"),
                Action::Keep => "KEEP".to_owned(),
                Action::Conclude(UpdateOutcome::Kept) => "KEPT".to_owned(),
                Action::Conclude(UpdateOutcome::TakenBack { reason }) => format!("BACK({reason})"),
            });
            keep |= action == Action::Keep;
        }
        let _ = update;
        keep
    };
    let actions = update.step(now, |_| Seen::default());
    play(&mut update, actions);
    for word in script.split_whitespace() {
        let (settled, trouble) = match word {
            "ok" => (true, None),
            "x" => (false, Some("it crashed".to_owned())),
            "late" => {
                now += PATIENCE;
                (false, None)
            }
            "nojournal" | "nolock" => {
                let actions = update.failed(word.to_owned(), now);
                play(&mut update, actions);
                continue;
            }
            "down" => {
                let actions = update.interrupted("it was taken down");
                play(&mut update, actions);
                continue;
            }
            word => {
                let seconds = word.strip_prefix('+').map_or(0, |seconds| seconds.parse().expect("seconds"));
                now += Duration::from_secs(seconds);
                (seconds > 0, None)
            }
        };
        let seen = || Seen { settled, trouble: trouble.clone() };
        let actions = update.step(now, |_| seen());
        if play(&mut update, actions) && !script.contains("nolock") {
            update.kept();
        }
    }
    assert_eq!(said.join(" "), expected, "{script}");
}

#[test]
fn each_is_replaced_then_all_are_watched_then_kept() {
    check(".. ok .. ok .. +29 .. +1 ..", "j(a) a=new j(b) b=new j(watch) j(keep) KEEP");
}

#[test]
fn trouble_at_any_step_takes_everything_back_that_was_touched() {
    check("x .. ok ok", "j(a) a=new j(back) a=old BACK(it crashed)");
    check("ok x .. ok", "j(a) a=new j(b) b=new j(back) b=old a=old BACK(it crashed)");
    check("ok ok x ok", "j(a) a=new j(b) b=new j(watch) j(back) b=old a=old BACK(it crashed)");
    check("ok ok +29 x ok", "j(a) a=new j(b) b=new j(watch) j(back) b=old a=old BACK(it crashed)");
}

#[test]
fn what_does_not_come_in_time_is_taken_back() {
    check(".. late .. ok", "j(a) a=new j(back) a=old BACK(a did not serve within 20 s)");
    check("ok .. late ok", "j(a) a=new j(b) b=new j(back) b=old a=old BACK(b did not serve within 20 s)");
}

#[test]
fn an_old_version_that_does_not_come_back_is_told() {
    check(
        "x .. late late late late late",
        "j(a) a=new j(back) a=old BACK(it crashed; the old version does not serve either)",
    );
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    check("nojournal ok", "j(a) a=new j(back) a=old BACK(nojournal)");
    check("ok nojournal ok", "j(a) a=new j(b) b=new j(back) b=old a=old BACK(nojournal)");
    check("ok ok nojournal ok", "j(a) a=new j(b) b=new j(watch) j(back) b=old a=old BACK(nojournal)");
    check(
        "ok ok +30 nolock ok",
        "j(a) a=new j(b) b=new j(watch) j(keep) KEEP j(back) b=old a=old BACK(nolock)",
    );
    // The journal fails on the way back too: it is gone all the same.
    check("x nojournal ok", "j(a) a=new j(back) a=old BACK(it crashed)");
}

#[test]
fn an_application_that_is_taken_down_keeps_its_old_version() {
    check("down ok", "j(a) a=new BACK(it was taken down)");
    check("ok ok down", "j(a) a=new j(b) b=new j(watch) BACK(it was taken down)");
    check("x down", "j(a) a=new j(back) a=old BACK(it crashed)");
    check("ok ok +30 down", "j(a) a=new j(b) b=new j(watch) j(keep) KEEP");
}

#[test]
fn it_is_asked_again_when_time_matters() {
    let mut update = Update::new(request(&["a"]), vec![PATIENCE]);
    let now = Instant::now();
    assert_eq!(update.deadline(), None);
    update.step(now, |_| Seen::default());
    assert_eq!(update.deadline(), Some(now + PATIENCE));
    update.step(now, |_| Seen { settled: true, trouble: None });
    assert_eq!(update.deadline(), Some(now + Duration::from_secs(30)));
}

#[test]
fn a_journal_tells_what_became_of_it() {
    let judged = |step: Step, runs: char| {
        let journal = Journal { begun_unix_ms: 0, request: request(&["a", "b"]), step };
        match judge(&journal, |_| Some(version(runs).id)) {
            UpdateOutcome::Kept => "kept".to_owned(),
            UpdateOutcome::TakenBack { reason } => reason,
        }
    };
    let replacing = Step::Replacing { service: "a".into() };
    assert_eq!(
        judged(replacing.clone(), 'a'),
        "interrupted while a was replaced: Sinew or the machine ended"
    );
    // Somebody may have written the lock by hand; the update was not proven for that.
    assert_eq!(judged(replacing, 'b'), "interrupted while a was replaced: Sinew or the machine ended");
    let watched = "interrupted while the new version was watched: Sinew or the machine ended";
    assert_eq!(judged(Step::Watching, 'a'), watched);
    assert_eq!(judged(Step::Keeping, 'b'), "kept");
    let before = "interrupted before the new version was kept: Sinew or the machine ended";
    assert_eq!(judged(Step::Keeping, 'a'), before);
    assert_eq!(judged(Step::TakingBack { reason: "it crashed".to_owned() }, 'a'), "it crashed");
}

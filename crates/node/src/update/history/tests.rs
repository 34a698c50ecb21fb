use sinew_spec::update::What;

use super::*;

#[test]
fn the_newest_entries_are_kept() {
    let base = std::env::temp_dir().join(format!("sinew-history-{}", std::process::id()));
    let folders = Folders { run: base.join("r"), state: base.join("s") };
    assert_eq!(read(&folders).expect("nothing there"), []);
    let entry = |unix_ms: u64| HistoryEntry {
        unix_ms,
        service: "web".into(),
        reference: "shop/web:1".to_owned(),
        what: What::NotPulled,
        from: None,
        to: None,
        reason: Some("é".repeat(2_000)),
    };
    append(&folders, (0..400).map(entry).collect()).expect("append");
    append(&folders, (400..600).map(entry).collect()).expect("append");
    let entries = read(&folders).expect("read");
    let times: Vec<u64> = entries.iter().map(|entry| entry.unix_ms).collect();
    assert_eq!(times, (100..600).collect::<Vec<u64>>());
    let reason = entries[0].reason.as_ref().expect("a reason");
    assert_eq!(reason.chars().count(), REASON_CHARACTERS_MAX + 1);
    fs::remove_dir_all(&base).expect("clean up");
}

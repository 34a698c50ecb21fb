use std::fs;
use std::path::PathBuf;

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sinew-log-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("folder");
    folder
}

#[test]
fn lines_are_put_together_and_marked() {
    let folder = folder("lines");
    let mut log = Log::open(File::open(&folder).expect("open").into(), 1 << 20, Instant::now());
    let mut begun = Vec::new();
    log.add(Stream::Output, &mut begun, b"hel", 0, Instant::now());
    log.add(Stream::Output, &mut begun, b"lo\n\nrest", 0, Instant::now());
    log.end(Stream::Output, &mut begun, 0);
    let mut begun = Vec::new();
    log.add(Stream::Error, &mut begun, b"oh\r\n", 0, Instant::now());
    let text = fs::read_to_string(folder.join("log")).expect("log");
    assert_eq!(text, "0 o hello\n0 o \n0 o rest\n0 e oh\n");
    fs::remove_dir_all(folder).expect("clean");
}

#[test]
fn two_files_of_bounded_size_are_kept() {
    let folder = folder("bounded");
    let mut log = Log::open(File::open(&folder).expect("open").into(), 10_000, Instant::now());
    for _ in 0..100 {
        log.add(
            Stream::Output,
            &mut Vec::new(),
            &[b"x".repeat(1000), b"\n".to_vec()].concat(),
            0,
            Instant::now(),
        );
    }
    for name in ["log", "log.old"] {
        let size = fs::metadata(folder.join(name)).expect("kept").len();
        assert!((1000..=10_000).contains(&size), "{name}: {size}");
    }
    fs::remove_dir_all(folder).expect("clean");
}

#[test]
fn a_line_without_end_does_not_grow() {
    let folder = folder("endless");
    let mut log = Log::open(File::open(&folder).expect("open").into(), 1 << 20, Instant::now());
    let mut begun = Vec::new();
    for _ in 0..100 {
        log.add(Stream::Output, &mut begun, &b"x".repeat(1000), 0, Instant::now());
        assert!(begun.len() < LINE_BYTES_MAX);
    }
    fs::remove_dir_all(folder).expect("clean");
}

/// Counts the times that the file grew.
fn writes(log: &mut Log, path: &std::path::Path, now: &mut Instant, step: Duration, lines: u32) -> u32 {
    let (mut size, mut writes) = (fs::metadata(path).expect("log").len(), 0);
    for _ in 0..lines {
        *now += step;
        log.add(Stream::Output, &mut Vec::new(), b"a line\n", 0, *now);
        let grown = fs::metadata(path).expect("log").len();
        writes += u32::from(grown != size);
        size = grown;
    }
    writes
}

#[test]
fn busy_services_are_written_down_in_batches_and_quiet_ones_at_once() {
    let folder = folder("batches");
    let path = folder.join("log");
    let mut log = Log::open(File::open(&folder).expect("open").into(), 1 << 20, Instant::now());
    let mut now = Instant::now();
    assert_eq!(writes(&mut log, &path, &mut now, Duration::from_secs(1), 20), 20, "one line a second");
    log.rest();
    // 1000 lines a second for ten seconds: four writes a second, and what was saved up.
    let busy = writes(&mut log, &path, &mut now, Duration::from_millis(1), 10_000);
    assert!((40..=40 + CREDIT_MAX + 2).contains(&busy), "{busy}");
    log.rest();
    assert!(log.due(now).is_none());
    let said = |log: &mut Log| log.add(Stream::Output, &mut Vec::new(), b"a line\n", 0, now);
    (0..CREDIT_MAX).for_each(|_| said(&mut log));
    assert!(log.due(now).is_some_and(|due| due <= WRITE_EVERY), "the saved up writes are used up");
    log.flush();
    assert_eq!(
        fs::read_to_string(&path).expect("log").lines().count(),
        10_020 + CREDIT_MAX as usize,
        "none is lost"
    );
    fs::remove_dir_all(folder).expect("clean");
}

#[test]
fn what_waits_is_bounded() {
    let folder = folder("waiting");
    let mut log = Log::open(File::open(&folder).expect("open").into(), 1 << 20, Instant::now());
    let now = Instant::now();
    for _ in 0..10_000 {
        log.add(Stream::Output, &mut Vec::new(), b"many lines at the same time\n", 0, now);
        assert!(log.pending.len() < PENDING_BYTES_MAX + LINE_BYTES_MAX);
    }
    fs::remove_dir_all(folder).expect("clean");
}

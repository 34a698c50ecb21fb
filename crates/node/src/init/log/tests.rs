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
    let mut log = Log::open(File::open(&folder).expect("open").into(), 1 << 20);
    let mut begun = Vec::new();
    log.add(Stream::Output, &mut begun, b"hel", 0);
    log.add(Stream::Output, &mut begun, b"lo\n\nrest", 0);
    log.end(Stream::Output, &mut begun, 0);
    let mut begun = Vec::new();
    log.add(Stream::Error, &mut begun, b"oh\r\n", 0);
    let text = fs::read_to_string(folder.join("log")).expect("log");
    assert_eq!(text, "0 o hello\n0 o \n0 o rest\n0 e oh\n");
    fs::remove_dir_all(folder).expect("clean");
}

#[test]
fn two_files_of_bounded_size_are_kept() {
    let folder = folder("bounded");
    let mut log = Log::open(File::open(&folder).expect("open").into(), 10_000);
    for _ in 0..100 {
        log.add(Stream::Output, &mut Vec::new(), &[b"x".repeat(1000), b"\n".to_vec()].concat(), 0);
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
    let mut log = Log::open(File::open(&folder).expect("open").into(), 1 << 20);
    let mut begun = Vec::new();
    for _ in 0..100 {
        log.add(Stream::Output, &mut begun, &b"x".repeat(1000), 0);
        assert!(begun.len() < LINE_BYTES_MAX);
    }
    fs::remove_dir_all(folder).expect("clean");
}

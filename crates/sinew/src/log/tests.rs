use std::fs;
use std::io::Write;

use sinew_spec::log::prefix;

use super::*;

struct Written {
    folder: InstanceFolder,
    instance: InstanceName,
}

impl Written {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-log-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder of the test");
        Self { folder: InstanceFolder { path }, instance: name.into() }
    }

    fn append(&self, text: &str) {
        let path = self.folder.path.join(FILE);
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("the log");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn line(&self, unix_ms: u64, text: &str) {
        self.append(&format!("{}{text}\n", prefix(unix_ms, Stream::Output)));
    }

    fn rotate(&self) {
        fs::rename(self.folder.path.join(FILE), self.folder.path.join(FILE_OLD)).expect("renamed");
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder.path);
    }
}

fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.text.as_str()).collect()
}

#[test]
fn follows_over_a_rotation_and_loses_nothing() {
    let log = Written::new("follow");
    log.line(1, "one");
    let mut reader = Reader::default();
    assert_eq!(texts(&reader.add(&log.instance, &log.folder, Past::default())), ["one"]);
    assert_eq!(texts(&reader.read()), [""; 0]);
    log.append(&format!("{}tw", prefix(2, Stream::Error)));
    assert_eq!(texts(&reader.read()), [""; 0], "a line is shown when it is whole");
    log.append("o\n");
    assert_eq!(texts(&reader.read()), ["two"]);
    log.line(3, "three");
    log.rotate();
    log.line(4, "four");
    let (mut seen, mut looks) = (Vec::new(), 0);
    while seen.len() < 2 && looks < 4 {
        seen.extend(reader.read());
        looks += 1;
    }
    assert_eq!(texts(&seen), ["three", "four"]);
}

#[test]
fn the_past_is_cut_as_wanted() {
    let log = Written::new("past");
    log.line(10, "a");
    log.line(20, "b");
    log.rotate();
    log.line(30, "c");
    let past = |tail, since_unix_ms| {
        let entries = Reader::default().add(&log.instance, &log.folder, Past { tail, since_unix_ms });
        entries.into_iter().map(|entry| entry.text).collect::<String>()
    };
    assert_eq!(past(None, None), "abc");
    assert_eq!(past(Some(2), None), "bc");
    assert_eq!(past(Some(9), Some(20)), "bc");
    assert_eq!(past(Some(1), Some(20)), "c");
    assert_eq!(past(Some(0), None), "");
    assert_eq!(texts(&last_lines(&log.folder, &log.instance, 1)), ["c"]);
    log.append(&format!("{}{NOTE}not its word\n", prefix(40, Stream::Error)));
    assert_eq!(last_word(&log.folder, &log.instance).map(|entry| entry.text), Some("c".to_owned()));
}

#[test]
fn a_file_that_comes_later_is_read_from_its_start() {
    let log = Written::new("later");
    let mut reader = Reader::default();
    let nothing = Past { tail: Some(0), since_unix_ms: None };
    assert_eq!(texts(&reader.add(&log.instance, &log.folder, nothing)), [""; 0]);
    log.line(1, "first");
    assert_eq!(texts(&reader.read()), ["first"]);
}

#[test]
fn several_instances_are_shown_in_order_of_time() {
    let (one, two) = (Written::new("one"), Written::new("two"));
    let mut reader = Reader::default();
    for log in [&one, &two] {
        reader.add(&log.instance, &log.folder, Past::default());
    }
    one.line(3, "c");
    two.line(1, "a");
    two.line(2, "b");
    one.line(4, "d");
    assert_eq!(texts(&reader.read()), ["a", "b", "c", "d"]);
}

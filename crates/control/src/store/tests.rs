use std::path::PathBuf;

use super::*;

struct File(PathBuf);

impl File {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-store-{test}-{}.redb", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const KIND: &str = "thing";

#[test]
fn a_record_is_changed_only_as_expected() {
    let file = File::new("expected");
    let store = Store::open(&file.0).unwrap();
    assert_eq!(store.revision(), 0);
    assert_eq!(store.put(KIND, "a", b"1".to_vec(), Expected::Absent).unwrap(), 1);
    let conflict = store.put(KIND, "a", b"2".to_vec(), Expected::Absent).unwrap_err();
    assert_eq!(conflict.to_string(), "thing/a is at revision 1, not at the expected one");
    assert_eq!(store.put(KIND, "a", b"2".to_vec(), Expected::Revision(1)).unwrap(), 2);
    assert!(store.put(KIND, "a", b"3".to_vec(), Expected::Revision(1)).is_err());
    assert!(store.put(KIND, "b", b"3".to_vec(), Expected::Revision(0)).is_err());
    assert_eq!(store.delete(KIND, "a", Expected::Revision(2)).unwrap(), 3);
    assert_eq!(store.get(KIND, "a").unwrap(), None);
}

#[test]
fn what_changes_nothing_is_not_written() {
    let file = File::new("unchanged");
    let store = Store::open(&file.0).unwrap();
    store.put(KIND, "a", b"1".to_vec(), Expected::Anything).unwrap();
    let before = std::fs::metadata(&file.0).unwrap().modified().unwrap();
    assert_eq!(store.put(KIND, "a", b"1".to_vec(), Expected::Anything).unwrap(), 1);
    assert_eq!(store.delete(KIND, "b", Expected::Anything).unwrap(), 1);
    assert_eq!(std::fs::metadata(&file.0).unwrap().modified().unwrap(), before);
}

#[test]
fn a_commit_is_one_revision_or_nothing() {
    let file = File::new("commit");
    let store = Store::open(&file.0).unwrap();
    let put = |name: &str| Change::Put { kind: KIND, name: name.into(), value: b"1".to_vec() };
    let both = vec![(put("a"), Expected::Absent), (put("b"), Expected::Absent)];
    assert_eq!(store.commit(both).unwrap(), 1);
    let second_fails = vec![(put("c"), Expected::Absent), (put("b"), Expected::Absent)];
    assert!(store.commit(second_fails).is_err());
    let (records, revision) = store.list(KIND).unwrap();
    let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!((names, revision), (vec!["a", "b"], 1));
}

#[test]
fn everything_survives_a_restart() {
    let file = File::new("restart");
    let store = Store::open(&file.0).unwrap();
    store.put(KIND, "a", b"1".to_vec(), Expected::Anything).unwrap();
    store.put("another", "z", b"1".to_vec(), Expected::Anything).unwrap();
    assert!(Store::open(&file.0).is_err(), "one process at a time");
    drop(store);

    let store = Store::open(&file.0).unwrap();
    assert_eq!(store.revision(), 2);
    let record = Record { name: "a".into(), revision: 1, value: b"1".to_vec() };
    assert_eq!(store.list(KIND).unwrap(), (vec![record.clone()], 2));
    assert_eq!(store.get(KIND, "a").unwrap(), Some(record));

    drop(store);
    std::fs::write(&file.0, b"this is no database").unwrap();
    assert!(matches!(Store::open(&file.0), Err(StoreError::Open { .. })));
}

#[tokio::test]
async fn a_watcher_sees_its_kind_from_a_revision_on() {
    let file = File::new("watch");
    let store = Store::open(&file.0).unwrap();
    store.put(KIND, "a", b"1".to_vec(), Expected::Anything).unwrap();
    store.put("another", "z", b"1".to_vec(), Expected::Anything).unwrap();
    store.delete(KIND, "a", Expected::Anything).unwrap();

    let event = |revision, name: &str, value: Option<&[u8]>| Event {
        revision,
        kind: KIND.into(),
        name: name.into(),
        value: value.map(<[u8]>::to_vec),
    };
    let mut watch = store.watch(KIND, 0);
    assert_eq!(watch.next().await.unwrap(), [event(1, "a", Some(b"1")), event(3, "a", None)]);
    let (next, written) =
        tokio::join!(watch.next(), async { store.put(KIND, "b", b"2".to_vec(), Expected::Absent) });
    assert_eq!(written.unwrap(), 4);
    assert_eq!(next.unwrap(), [event(4, "b", Some(b"2"))]);
}

#[tokio::test]
async fn who_asks_for_more_history_than_there_is_lists_again() {
    let file = File::new("compacted");
    let store = Store::open(&file.0).unwrap();
    for n in 0..HISTORY_MAX + 10 {
        store.put(KIND, "a", n.to_string().into_bytes(), Expected::Anything).unwrap();
    }
    let error = store.watch(KIND, 9).next().await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { asked: 9, oldest: 10 }), "{error}");
    assert_eq!(store.watch(KIND, 10).next().await.unwrap().len(), HISTORY_MAX as usize);
}

use std::os::unix::fs::PermissionsExt;

use sinew_spec::digest::Digest;
use sinew_spec::update::{Cause, ImageVersion};

use super::*;

#[test]
fn it_is_written_whole_and_read_back() {
    let folder = std::env::temp_dir().join(format!("sinew-lockfile-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("make a folder");
    assert_eq!(read(&folder).expect("nothing there"), None);
    let version = |digit: &str| ImageVersion {
        id: Digest::from_hex(&digit.repeat(64)).expect("hexadecimal"),
        digest: None,
    };
    let update = |reference: &str| ServiceUpdate {
        service: "web".into(),
        reference: reference.to_owned(),
        platform: "linux/amd64".to_owned(),
        from: version("a"),
        to: version("b"),
    };
    for reference in ["shop/web:1", "redis:7"] {
        let mut request = UpdateRequest {
            cause: Cause::Update,
            services: vec![update(reference)],
            resolved: "2026-11-21T10:49:45Z".to_owned(),
            watch_ms: 0,
        };
        write(&folder, &updated(&folder, &request).expect("good")).expect("written");
        request.resolved = "now".to_owned();
        updated(&folder, &request).expect_err("it could not be read again");
    }
    let lock = read(&folder).expect("readable").expect("there");
    let references: Vec<&str> = lock.iter().map(|(key, _)| key.reference.as_str()).collect();
    assert_eq!(references, ["redis:7", "shop/web:1"]);
    let names: Vec<_> =
        fs::read_dir(&folder).expect("list").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, [FILE_NAME], "nothing else is left");
    let mode = fs::metadata(path(&folder)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    fs::write(path(&folder), "version: 7\n").expect("write");
    let error = read(&folder).expect_err("of another version").to_string();
    assert!(error.contains("sinew.lock:1:10: the file is of version 7"), "{error}");
    fs::remove_dir_all(&folder).expect("clean up");
}

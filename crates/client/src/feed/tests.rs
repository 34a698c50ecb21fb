use std::os::unix::fs::PermissionsExt;

use super::*;

fn good() -> LastGood {
    let identity = Identity {
        chain_pem: "chain".into(),
        key_pem: "secret".into(),
        bundle_pem: "bundle".into(),
        issued_at: UNIX_EPOCH,
        not_after: UNIX_EPOCH + Duration::from_secs(100),
    };
    LastGood { identity: Some(identity), ..LastGood::default() }
}

#[test]
fn the_last_good_file_is_owner_only_and_replaced_as_a_whole() {
    let path = std::env::temp_dir().join(format!("sinew-last-good-{}.json", std::process::id()));
    for _ in 0..2 {
        last_good::write(&path, &good());
        let kept: LastGood = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(kept, good());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    let read = |path| last_good::read(path, &"orders-1".into(), &Trust::default());
    let reason = |path| read(path).unwrap_err().to_string();
    assert!(reason(&path).contains("the certificate is not signed"), "{}", reason(&path));
    std::fs::write(&path, b"{").unwrap();
    assert!(reason(&path).contains("it is damaged"), "{}", reason(&path));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read(&path).unwrap(), LastGood::default());
}

#[test]
fn renewal_is_about_half_way() {
    let identity = good().identity.unwrap();
    for _ in 0..100 {
        let at = renewal(&identity).duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((45.0..=55.0).contains(&at), "{at}");
    }
}

#[test]
fn a_key_is_not_printed() {
    assert!(!format!("{:?}", good()).contains("secret"));
}

use std::os::unix::fs::PermissionsExt;

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sinew-sign-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("make a folder");
    folder
}

#[test]
fn a_pair_signs_and_verifies_and_is_never_overwritten() {
    let folder = folder("pair");
    let path = folder.join("key");
    let (public, id) = generate(&path).expect("a pair");
    assert_eq!(public, folder.join("key.pub"));
    let mode = fs::metadata(&path).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let signing = SigningKey::read(&path).expect("the private key");
    let verifying = VerifyingKey::read(&public).expect("the public key");
    assert_eq!((signing.id().expect("an id"), &verifying.id), (id.clone(), &id));

    let signature = signing.sign(b"manifest");
    assert!(verifying.is_of(&signature, b"manifest"));
    assert!(!verifying.is_of(&signature, b"manifesT"));
    assert!(!verifying.is_of(&signature[1..], b"manifest"));
    assert!(!verifying.is_of(b"", b"manifest"));

    assert!(matches!(generate(&path), Err(KeyError::Exists(_))));
    fs::remove_file(&public).expect("remove");
    assert!(matches!(generate(&path), Err(KeyError::Exists(_))));
    assert!(matches!(SigningKey::read(&folder.join("none")), Err(KeyError::Read { .. })));
    fs::write(&public, "no key").expect("write");
    assert!(matches!(VerifyingKey::read(&public), Err(KeyError::NoKey { .. })));
    // A private key is no public one.
    assert!(matches!(VerifyingKey::read(&path), Err(KeyError::NoKey { .. })));
    fs::remove_dir_all(&folder).expect("clean up");
}

/// Made by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`: keys of others are taken.
#[test]
fn keys_of_openssl_are_read() {
    let folder = folder("openssl");
    let (private, public) = (folder.join("a"), folder.join("b"));
    fs::write(&private, "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n").expect("write");
    fs::write(&public, "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n").expect("write");
    let signing = SigningKey::read(&private).expect("a private key");
    let verifying = VerifyingKey::read(&public).expect("a public key");
    // RFC 8032, section 7.1, TEST 1: the empty message.
    let signature = signing.sign(b"");
    assert_eq!(signature[..8], [0xe5, 0x56, 0x43, 0x00, 0xc3, 0x60, 0xac, 0x72]);
    assert!(verifying.is_of(&signature, b""));
    fs::remove_dir_all(&folder).expect("clean up");
}

#[test]
fn base64_is_that_of_rfc_4648() {
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
    ] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}

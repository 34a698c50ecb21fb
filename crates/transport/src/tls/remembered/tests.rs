use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::alg_id;

use super::*;

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// A signature is good when it is the message.
#[derive(Debug)]
struct Echo;

impl SignatureVerificationAlgorithm for Echo {
    fn verify_signature(&self, _: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        ASKED.fetch_add(1, Ordering::Relaxed);
        if message == signature { Ok(()) } else { Err(InvalidSignature) }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

#[test]
fn what_was_good_is_remembered_and_nothing_like_it() {
    let remembering = Remembering::new(&Echo);
    let check = |key: &[u8], message: &[u8], signature: &[u8], good: bool, asked: bool| {
        let before = ASKED.load(Ordering::Relaxed);
        let verified = remembering.verify_signature(key, message, signature);
        let what = String::from_utf8_lossy(&message[..message.len().min(10)]);
        assert_eq!(verified.is_ok(), good, "{what}");
        assert_eq!(ASKED.load(Ordering::Relaxed) > before, asked, "{what}");
    };
    check(b"key", b"message", b"message", true, true);
    check(b"key", b"message", b"message", true, false);
    // Any part that differs.
    check(b"other", b"message", b"message", true, true);
    check(b"key", b"messagE", b"message", false, true);
    check(b"key", b"message", b"messagE", false, true);
    check(b"key", b"", b"message", false, true);
    // What was bad is asked for again.
    check(b"key", b"message", b"messagE", false, true);
    check(b"key", b"message", b"message", true, false);

    let large = vec![b'l'; MESSAGE_BYTES_MAX + 1];
    check(b"key", &large, &large, true, true);
    check(b"key", &large, &large, true, true);

    for i in 0..SIGNATURES_MAX {
        let message = i.to_string();
        check(b"key", message.as_bytes(), message.as_bytes(), true, true);
    }
    check(b"key", b"63", b"63", true, false);
    check(b"key", b"message", b"message", true, true);
    assert_eq!(remembering.good.lock().unwrap().len(), SIGNATURES_MAX);
}

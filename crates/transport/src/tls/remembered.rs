//! Signatures on certificates that were found good. Whether a signature is good depends on its key and on what is signed,
//! on nothing else: neither on time nor on trust. So of a chain that comes again all is judged as the first time (dates,
//! usage, constraints, where it ends); only the arithmetic is not repeated. What a handshake itself is signed with is new
//! each time and never asked for here.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// Of one algorithm; the oldest is forgotten. Signatures under our trust bundle only get here.
const SIGNATURES_MAX: usize = 64;
/// What is larger is verified again.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

#[derive(Debug)]
pub struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    good: Mutex<VecDeque<Good>>,
}

#[derive(Debug)]
struct Good {
    public_key: Box<[u8]>,
    message: Box<[u8]>,
    signature: Box<[u8]>,
}

impl Remembering {
    pub fn new(algorithm: &'static dyn SignatureVerificationAlgorithm) -> Self {
        Self { algorithm, good: Mutex::default() }
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let is_same = |good: &Good| {
            *good.signature == *signature && *good.public_key == *public_key && *good.message == *message
        };
        if self.good.lock().unwrap_or_else(PoisonError::into_inner).iter().any(is_same) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        if message.len() <= MESSAGE_BYTES_MAX {
            let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            if good.len() == SIGNATURES_MAX {
                good.pop_front();
            }
            let [public_key, message, signature] = [public_key, message, signature].map(Box::from);
            good.push_back(Good { public_key, message, signature });
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

#[cfg(test)]
mod tests;

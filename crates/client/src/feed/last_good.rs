//! The newest state that was accepted, in one file.
//!
//! The private key is part of it: a proxy that starts while its control plane is away could otherwise authenticate to
//! nobody. The file is owner-only in the application's private run folder, which lies in memory for root (`/run`) and
//! in most sessions, and the key is good for one certificate lifetime.
//!
//! What the control plane said carries its signature. A file that was changed, belongs to another instance or is older
//! than what was served already is refused as a whole, and the proxy waits for its control plane.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{
    FRAME_BYTES_MAX, ProxyConfig, Signature, Trust, signed_certificate, signed_configuration,
};
use sinew_transport::tls;

use super::Identity;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LastGood {
    pub config: Option<ProxyConfig>,
    #[serde(default)]
    pub config_signature: Option<Signature>,
    pub identity: Option<Identity>,
    #[serde(default)]
    pub identity_signature: Option<Signature>,
}

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
#[error("the last-good state {path} is not used: {reason}; waiting for the control plane", path = .path.display())]
pub(super) struct Refused {
    path: PathBuf,
    reason: String,
}

/// Empty: there is no file.
pub(super) fn read(path: &Path, instance: &InstanceName, trust: &Trust) -> Result<LastGood, Refused> {
    let refused = |reason: String| Refused { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let limit = 2 * FRAME_BYTES_MAX as u64;
    match fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LastGood::default()),
        Err(error) => return Err(refused(error.to_string())),
        Ok(_) => {}
    }
    let good: LastGood =
        serde_json::from_slice(&bytes).map_err(|error| refused(format!("it is damaged ({error})")))?;
    if let Some(config) = &good.config {
        check_config(config, good.config_signature.as_ref(), instance, trust).map_err(refused)?;
    }
    if let Some(identity) = &good.identity {
        check_identity(identity, good.identity_signature.as_ref(), instance, trust).map_err(refused)?;
    }
    Ok(good)
}

fn check_config(
    config: &ProxyConfig,
    signature: Option<&Signature>,
    instance: &InstanceName,
    trust: &Trust,
) -> Result<(), String> {
    verify(&signed_configuration(config), signature, trust)
        .map_err(|reason| format!("the configuration {reason}"))?;
    if config.instance != *instance {
        return Err(format!("it is the one of {}", config.instance));
    }
    if config.revision < trust.revision_min {
        let (found, served) = (config.revision, trust.revision_min);
        return Err(format!("its revision is {found}, and {served} was served already"));
    }
    Ok(())
}

fn check_identity(
    identity: &Identity,
    signature: Option<&Signature>,
    instance: &InstanceName,
    trust: &Trust,
) -> Result<(), String> {
    let not_after = identity.not_after.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let not_after = u64::try_from(not_after).unwrap_or(u64::MAX);
    let Identity { chain_pem, key_pem, bundle_pem, .. } = identity;
    verify(&signed_certificate(instance, chain_pem, bundle_pem, not_after), signature, trust)
        .map_err(|reason| format!("the certificate {reason}"))?;
    if *bundle_pem != trust.bundle_pem {
        return Err("its trust bundle is another one".to_owned());
    }
    let key = KeyPair::from_pem(key_pem).map_err(|error| format!("its key is damaged ({error})"))?;
    let certificate = tls::Identity::from_pem(chain_pem, key_pem, bundle_pem, not_after);
    let certificate = certificate.map_err(|error| error.to_string())?;
    // The certificate is known to be good, and holds one public key.
    let public = key.public_key_raw();
    if !certificate.chain[0].windows(public.len()).any(|window| window == public) {
        return Err("its key is not the one of its certificate".to_owned());
    }
    Ok(())
}

fn verify(statement: &[u8], signature: Option<&Signature>, trust: &Trust) -> Result<(), String> {
    let Some(Signature(signature)) = signature else { return Err("is not signed".to_owned()) };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &trust.root_key)
        .verify(statement, signature)
        .map_err(|_| "is not what the control plane signed".to_owned())
}

/// Replaces the file as a whole. It is a convenience for the next start: when it cannot be written, this one goes on.
pub(super) fn write(path: &Path, good: &LastGood) {
    let _ = try_write(path, good);
}

/// Not synced: the file need not survive the machine, and a torn one is recognised.
fn try_write(path: &Path, good: &LastGood) -> io::Result<()> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(good)?)?;
    fs::rename(&draft, path)
}

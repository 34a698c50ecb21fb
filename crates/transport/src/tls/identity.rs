use std::fmt;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sinew_spec::name::SpiffeId;

use super::TlsError;

/// Who we are, and whom we trust.
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Trust anchors.
    pub bundle: Vec<CertificateDer<'static>>,
    /// Of the leaf.
    pub id: SpiffeId,
    pub not_after_unix_ms: u64,
}

impl Identity {
    pub fn from_pem(
        chain_pem: &str,
        key_pem: &str,
        bundle_pem: &str,
        not_after_unix_ms: u64,
    ) -> Result<Self, TlsError> {
        let chain = certificates(chain_pem, "chain")?;
        let bundle = certificates(bundle_pem, "trust bundle")?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| TlsError::Material(format!("private key: {error}")))?;
        let id = spiffe_id(&chain[0])?;
        Ok(Self { chain, key, bundle, id, not_after_unix_ms })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("not_after_unix_ms", &self.not_after_unix_ms)
            .finish()
    }
}

/// Never empty.
fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Material(format!("{what}: {error}")))?;
    if list.is_empty() {
        return Err(TlsError::Material(format!("{what}: there is no certificate in it")));
    }
    Ok(list)
}

/// The one URI SAN of a certificate that is a SPIFFE ID (SPIFFE X.509-SVID, section 2: exactly one URI SAN).
pub fn spiffe_id(certificate: &CertificateDer<'_>) -> Result<SpiffeId, TlsError> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| TlsError::Material(error.to_string()))?;
    let uris: Vec<&str> = parsed.valid_uri_names().collect();
    match uris.as_slice() {
        [uri] => SpiffeId::parse(uri).ok_or_else(|| TlsError::Material(format!("{uri} is not a SPIFFE ID"))),
        other => Err(TlsError::SpiffeIds(other.len())),
    }
}

//! The root of an application's trust domain, and what it signs.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, SigningKey,
};
use sinew_spec::name::{SpiffeId, TrustDomain};
use sinew_spec::proxy::{SIGNED_PREFIX, Signature};
use x509_parser::pem::parse_x509_pem;

use crate::key_file;

/// How long a leaf lives unless said otherwise; proxies renew at half of it.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// A leaf never lives longer than this.
const LIFETIME_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// How far the clocks of two hosts may differ: certificates are valid that long before they are made.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
/// The root outlives the machines it runs on; a change of root is a change of trust domain.
const ROOT_LIFETIME: Duration = Duration::from_secs(25 * 365 * 24 * 3600);
/// A P-256 request is below 1 KiB; an RSA one below 4 KiB.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// RFC 5280 can express years up to 9999; nothing sensible is later than this (year 2500).
const UNIX_SECONDS_MAX: u64 = 16_725_225_600;

const CERTIFICATE_BEGIN: &str = "-----BEGIN CERTIFICATE-----";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the root of the trust domain, {path}: {source}")]
    RootFile { path: PathBuf, source: std::io::Error },
    #[error(
        "the root of the trust domain, {path}, is damaged ({reason}); restore it, or delete it and restart all services"
    )]
    RootDamaged { path: PathBuf, reason: String },
    #[error("{path} is the root of {found}, not of {wanted}")]
    OtherDomain { path: PathBuf, found: String, wanted: TrustDomain },
    #[error("{id} is not of the trust domain {domain}")]
    ForeignIdentity { id: SpiffeId, domain: TrustDomain },
    #[error("the certificate signing request cannot be used: {0}")]
    Request(String),
    #[error("the clock says a time that a certificate cannot hold")]
    Clock,
    #[error("signing failed: {0}")]
    Signing(String),
}

/// What an instance gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// PEM, leaf first. The root is not part of it: it is in the bundle.
    pub chain_pem: String,
    /// Whole seconds.
    pub not_after: SystemTime,
}

/// Signs for one trust domain. The key never leaves this type.
pub struct Authority {
    domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    bundle_pem: String,
}

impl Authority {
    /// Opens the root kept in `folder`, or makes it at the first start (ECDSA P-256; `root.pem`, mode 0600, in a
    /// folder of mode 0700).
    pub fn open(folder: &Path, domain: &TrustDomain, now: SystemTime) -> Result<Self, Error> {
        let path = folder.join("root.pem");
        let file_error = |source| Error::RootFile { path: path.clone(), source };
        if let Some(text) = key_file::read(&path).map_err(file_error)? {
            return Self::from_pem(&text, domain, &path);
        }
        let text = make_root(domain, now)?;
        key_file::write(&path, &text).map_err(file_error)?;
        Self::from_pem(&text, domain, &path)
    }

    /// `text`: key, then certificate, then nothing.
    fn from_pem(text: &str, domain: &TrustDomain, path: &Path) -> Result<Self, Error> {
        let damaged = |reason: String| Error::RootDamaged { path: path.to_owned(), reason };
        let split = text.find(CERTIFICATE_BEGIN).ok_or_else(|| damaged("it holds no certificate".into()))?;
        let (key, certificate) = text.split_at(split);
        let key = KeyPair::from_pem(key).map_err(|error| damaged(error.to_string()))?;
        let public_key = key.public_key_raw().to_vec();
        let issuer =
            Issuer::from_ca_cert_pem(certificate, key).map_err(|error| damaged(error.to_string()))?;
        let root = ParsedRoot::from_pem(certificate).map_err(damaged)?;
        if root.public_key != public_key {
            return Err(damaged("key and certificate do not belong together".into()));
        }
        if root.name != root_name(domain) {
            let (path, found) = (path.to_owned(), root.name);
            return Err(Error::OtherDomain { path, found, wanted: domain.clone() });
        }
        Ok(Self { domain: domain.clone(), issuer, bundle_pem: certificate.to_owned() })
    }

    /// The trust bundle, PEM.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root's public key: a point of P-256, uncompressed.
    pub fn root_key(&self) -> &[u8] {
        self.issuer.key().public_key_raw()
    }

    /// Signs what a proxy keeps on disk ([`SIGNED_PREFIX`]), and nothing else.
    pub fn sign(&self, statement: &[u8]) -> Result<Signature, Error> {
        if !statement.starts_with(SIGNED_PREFIX) {
            return Err(Error::Signing("this is nothing for a proxy to keep".to_owned()));
        }
        let signed = self.issuer.key().sign(statement);
        signed.map(Signature).map_err(|error| Error::Signing(error.to_string()))
    }

    /// Certifies that the holder of the key in `request_pem` is `id`. The request proves possession of the key by its
    /// signature; names and extensions in it are ignored. `lifetime` is bounded to 90 days.
    pub fn issue(
        &self,
        request_pem: &str,
        id: &SpiffeId,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Leaf, Error> {
        let own = format!("spiffe://{}/", self.domain);
        if !id.as_str().starts_with(&own) {
            return Err(Error::ForeignIdentity { id: id.clone(), domain: self.domain.clone() });
        }
        if request_pem.len() > REQUEST_BYTES_MAX {
            return Err(Error::Request(format!("it is longer than {REQUEST_BYTES_MAX} bytes")));
        }
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|error| Error::Request(error.to_string()))?;

        let now = whole_seconds(now)?;
        let not_after = now + lifetime.min(LIFETIME_MAX).max(Duration::from_secs(1));
        let params = leaf_params(id, now, not_after)?;
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(|error| Error::Signing(error.to_string()))?;
        Ok(Leaf { chain_pem: certificate.pem(), not_after })
    }
}

/// X.509-SVID, sections 3 and 4: one URI SAN, no subject, not a CA, key usage digitalSignature only.
fn leaf_params(id: &SpiffeId, now: SystemTime, not_after: SystemTime) -> Result<CertificateParams, Error> {
    let uri = id.as_str().try_into().map_err(|error: rcgen::Error| Error::Signing(error.to_string()))?;
    let mut params = CertificateParams::default();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = not_after.into();
    params.serial_number = Some(serial_number(now));
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn make_root(domain: &TrustDomain, now: SystemTime) -> Result<String, Error> {
    let signing = |error: rcgen::Error| Error::Signing(error.to_string());
    let now = whole_seconds(now)?;
    let uri = format!("spiffe://{domain}").try_into().map_err(signing)?;
    let mut params = CertificateParams::default();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + ROOT_LIFETIME).into();
    params.serial_number = Some(serial_number(now));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, root_name(domain));
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(signing)?;
    let certificate = params.self_signed(&key).map_err(signing)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// What of a stored root is compared before it is used.
struct ParsedRoot {
    name: String,
    public_key: Vec<u8>,
}

impl ParsedRoot {
    fn from_pem(pem: &str) -> Result<Self, String> {
        let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
        let certificate = block.parse_x509().map_err(|error| error.to_string())?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            name: name.unwrap_or("a root without a name").to_owned(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }
}

fn root_name(domain: &TrustDomain) -> String {
    format!("Sinew root of {domain}")
}

/// Unique per issuer (RFC 5280, 4.1.2.2), also when one key is certified twice: 126 bits of keyed hashes, the keys from
/// the system's random source. It need not be secret.
fn serial_number(now: SystemTime) -> SerialNumber {
    let half = || RandomState::new().hash_one(now).to_be_bytes();
    let mut bytes = [half(), half()].concat();
    // Positive, and without leading zeros that an encoder would drop.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Certificates hold whole seconds. Refuses what cannot be written in one, so that no conversion below can panic.
fn whole_seconds(time: SystemTime) -> Result<SystemTime, Error> {
    let seconds = time.duration_since(UNIX_EPOCH).map_err(|_| Error::Clock)?.as_secs();
    if seconds < CLOCK_SKEW.as_secs() || seconds > UNIX_SECONDS_MAX {
        return Err(Error::Clock);
    }
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;

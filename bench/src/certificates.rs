//! One authority and two leaves: the calling and the called side. All proxies get the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::link::Secured;

/// The name in the leaves that peers verify.
pub const SERVER_NAME: &str = "svc.example.com";
/// For all, as OpenSSL names it. Left alone, some would prefer AES-256 and with it the costlier hash.
pub const CIPHER_SUITE: &str = "TLS_AES_128_GCM_SHA256";
pub const TRUST_DOMAIN: &str = "bench.sinew";
pub const NAMESPACE: &str = "bench";
pub const CALLER: &str = "caller";
pub const CALLEE: &str = "callee";

/// PEM files in the run's folder.
pub struct Certificates {
    pub bundle: PathBuf,
    pub caller: Leaf,
    pub callee: Leaf,
}

pub struct Leaf {
    pub chain: PathBuf,
    pub key: PathBuf,
    /// Chain and key in one file, as HAProxy reads them.
    pub both: PathBuf,
}

impl Certificates {
    pub fn make(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        // Of the same name, a leaf would be taken for its own issuer.
        params.distinguished_name.push(DnType::CommonName, "bench root");
        let root = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let bundle = folder.join("root.pem");
        fs::write(&bundle, root.pem())?;
        let leaf = |service: &str| -> Result<Leaf> {
            let key = KeyPair::generate()?;
            let id = format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/svc/{service}/inst/{service}-1");
            let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
            params.subject_alt_names.push(SanType::URI(id.try_into()?));
            params.distinguished_name.push(DnType::CommonName, service);
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let chain = params.signed_by(&key, &issuer)?.pem();
            let file = |what: &str, text: &str| -> Result<PathBuf> {
                let path = folder.join(format!("{service}.{what}.pem"));
                fs::write(&path, text)?;
                Ok(path)
            };
            let key = key.serialize_pem();
            Ok(Leaf {
                chain: file("chain", &chain)?,
                key: file("key", &key)?,
                both: file("both", &format!("{chain}{key}"))?,
            })
        };
        Ok(Self { bundle, caller: leaf(CALLER)?, callee: leaf(CALLEE)? })
    }

    /// A client with the caller's certificate: TLS 1.3 over X25519 with [`CIPHER_SUITE`], a full handshake every time.
    pub fn client(&self, server_name: &str) -> Result<Secured> {
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.bundle)?)?;
        let verifier = Arc::new(AnyName(
            rustls::client::WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots),
                Arc::new(provider.clone()),
            )
            .build()?,
        ));
        let chain = CertificateDer::pem_file_iter(&self.caller.chain)?.collect::<Result<Vec<_>, _>>()?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&self.caller.key)?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Secured { config: Arc::new(config), server_name: ServerName::try_from(server_name.to_owned())? })
    }
}

/// A sidecar is asked for by a name that says where the request goes, and is not in its certificate: the chain is
/// verified, the name is taken for [`SERVER_NAME`].
#[derive(Debug)]
struct AnyName(Arc<rustls::client::WebPkiServerVerifier>);

impl rustls::client::danger::ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        ocsp: &[u8],
        now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        let name = ServerName::try_from(SERVER_NAME).expect("a constant that is a DNS name");
        self.0.verify_server_cert(leaf, intermediates, &name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

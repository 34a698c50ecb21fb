//! Mutual TLS 1.3 between sidecars (SPIFFE X.509-SVID).
//!
//! A certificate is good when its chain ends in the trust bundle; *who* the peer is, is its SPIFFE ID, taken from the
//! certificate after the handshake (also of a resumed session, where no verifier runs) and judged by the caller.
//! Server names carry routing only: `<port>.<service>.<namespace>`.

mod identity;
mod remembered;
mod session;
mod verifier;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection, SupportedCipherSuite, version,
};
use sinew_spec::name::SpiffeId;
use tokio::io::AsyncWriteExt;

pub use self::identity::{Identity, spiffe_id};
pub use self::session::TlsStream;
use crate::stream::{Raw, Stream};

/// Sessions kept for resumption, on either side. Pools keep connections open, so few are worth their memory.
const SESSIONS_MAX: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("certificate or key cannot be used: {0}")]
    Material(String),
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("certificate has {0} SPIFFE IDs in it, one is needed")]
    SpiffeIds(usize),
}

/// What is spoken inside of a hop's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`
    Http,
    /// `h2`
    Http2,
    /// `sinew-tcp`: the callee sends one byte ([`TCP_CONNECTED`] or a refusal), then bytes flow as they are.
    Tcp,
}

/// First byte of the callee on `sinew-tcp`: the application has accepted; the rest is its bytes.
pub const TCP_CONNECTED: u8 = 0;
/// The application did not accept the connection: nothing has reached it, another instance may be tried.
pub const TCP_CONNECT_FAILED: u8 = 1;
/// The caller is not allowed, or the port speaks a declared protocol that is not plain TCP.
pub const TCP_REFUSED: u8 = 2;
/// The application listens on loopback only, and the port is not declared: it is not meant for callers.
pub const TCP_LOOPBACK_ONLY: u8 = 3;

impl Alpn {
    const ALL: [Self; 3] = [Self::Http, Self::Http2, Self::Tcp];

    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Http => b"http/1.1",
            Self::Http2 => b"h2",
            Self::Tcp => b"sinew-tcp",
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|alpn| alpn.as_bytes() == bytes)
    }
}

/// Both sides of the hop under one identity. Made anew when the identity changes; sessions of the old one are not
/// resumed under the new.
#[derive(Clone)]
pub struct Tls {
    id: SpiffeId,
    server: Arc<ServerConfig>,
    client_http: Arc<ClientConfig>,
    client_http2: Arc<ClientConfig>,
    client_tcp: Arc<ClientConfig>,
}

/// An accepted connection of a peer whose chain is good.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    pub peer: SpiffeId,
    pub server_name: String,
    pub alpn: Alpn,
}

impl Tls {
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let verifier = Arc::new(verifier::BundleVerifier::new(&identity.bundle, &provider)?);
        let client = |alpn: Alpn| -> Result<Arc<ClientConfig>, TlsError> {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&version::TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
            Ok(Arc::new(config))
        };
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
        server.alpn_protocols = Alpn::ALL.map(|alpn| alpn.as_bytes().to_vec()).into();
        server.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        server.send_tls13_tickets = 1;
        Ok(Self {
            id: identity.id.clone(),
            server: Arc::new(server),
            client_http: client(Alpn::Http)?,
            client_http2: client(Alpn::Http2)?,
            client_tcp: client(Alpn::Tcp)?,
        })
    }

    /// Who we are.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The handshake of an accepted connection. The caller bounds its time and judges `peer`.
    pub async fn accept(&self, raw: Raw) -> io::Result<Accepted> {
        let session = ServerConnection::new(self.server.clone()).map_err(io::Error::other)?;
        let stream = TlsStream::handshake(raw, session).await?;
        let Connection::Server(session) = stream.session() else { unreachable!("it was made of one") };
        let peer = peer_id(session.peer_certificates())?;
        let server_name = session.server_name().ok_or_else(|| invalid("no server name was sent"))?.to_owned();
        let alpn = session.alpn_protocol().and_then(Alpn::parse).ok_or_else(|| invalid("no common ALPN"))?;
        Ok(Accepted { stream: Stream::Tls(Box::new(stream)), peer, server_name, alpn })
    }

    /// The handshake of a dialed connection. The peer's SPIFFE ID must be one that `expected` accepts.
    pub async fn connect(
        &self,
        raw: Raw,
        server_name: &str,
        alpn: Alpn,
        expected: impl Fn(&SpiffeId) -> bool,
    ) -> io::Result<Stream> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| invalid("service and namespace do not make a server name"))?;
        let config = match alpn {
            Alpn::Http => &self.client_http,
            Alpn::Http2 => &self.client_http2,
            Alpn::Tcp => &self.client_tcp,
        };
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = TlsStream::handshake(raw, session).await?;
        let session = stream.session();
        let peer = peer_id(session.peer_certificates())?;
        if !expected(&peer) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{server_name} is served by {peer}, which is somebody else"),
            ));
        }
        if session.alpn_protocol().and_then(Alpn::parse) != Some(alpn) {
            return Err(invalid("the peer did not take the offered ALPN"));
        }
        // Now it may learn who we are.
        stream.flush().await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// aws-lc-rs with X25519 first and classic groups only: a hybrid key share is 1.2 KB more in each direction, between
/// processes of one host mostly. AES-128 comes first where the processor knows AES: SHA-384, which comes with AES-256, costs
/// a fifteenth of a handshake. The calling side's order counts, so a weak machine gets ChaCha20 of a strong one.
fn provider() -> CryptoProvider {
    const AES_128: SupportedCipherSuite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    const AES_256: SupportedCipherSuite = aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
    const CHACHA20: SupportedCipherSuite = aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let cipher_suites = match knows_aes() {
        true => vec![AES_128, AES_256, CHACHA20],
        false => vec![CHACHA20, AES_128, AES_256],
    };
    CryptoProvider {
        cipher_suites,
        kx_groups: vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    }
}

fn knows_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

fn peer_id(certificates: Option<&[CertificateDer<'_>]>) -> io::Result<SpiffeId> {
    let leaf = certificates.and_then(<[_]>::first).ok_or_else(|| invalid("the peer sent no certificate"))?;
    spiffe_id(leaf).map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

//! Mutual TLS 1.3 between sidecars (SPIFFE X.509-SVID).
//!
//! A certificate is good when its chain ends in the trust bundle; *who* the peer is, is its SPIFFE ID, taken from the
//! certificate after the handshake (also of a resumed session, where no verifier runs) and judged by the caller.
//! Server names carry routing only: `<port>.<service>.<namespace>`.

mod identity;
mod verifier;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, ServerConfig, version};
use sinew_spec::name::SpiffeId;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use self::identity::{Identity, spiffe_id};
use crate::stream::{Raw, Stream};

/// Sessions kept for resumption, on either side. Pools keep connections open, so few are worth their memory.
const SESSIONS_MAX: usize = 32;
/// Plaintext waiting to be encrypted, per connection.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

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
    server: TlsAcceptor,
    client_http: TlsConnector,
    client_http2: TlsConnector,
    client_tcp: TlsConnector,
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
        let client = |alpn: Alpn| -> Result<TlsConnector, TlsError> {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&version::TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
            Ok(TlsConnector::from(Arc::new(config)))
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
            server: TlsAcceptor::from(Arc::new(server)),
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
        let mut stream = self.server.accept(raw).await?;
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(BUFFER_BYTES_MAX));
        let peer = peer_id(session.peer_certificates())?;
        let server_name = session.server_name().ok_or_else(|| invalid("no server name was sent"))?.to_owned();
        let alpn = session.alpn_protocol().and_then(Alpn::parse).ok_or_else(|| invalid("no common ALPN"))?;
        Ok(Accepted { stream: Stream::TlsServer(Box::new(stream)), peer, server_name, alpn })
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
        let connector = match alpn {
            Alpn::Http => &self.client_http,
            Alpn::Http2 => &self.client_http2,
            Alpn::Tcp => &self.client_tcp,
        };
        let mut stream = connector.connect(name, raw).await?;
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(BUFFER_BYTES_MAX));
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
        Ok(Stream::TlsClient(Box::new(stream)))
    }
}

/// aws-lc-rs with X25519 first and classic groups only: a hybrid key share is 1.2 KB more in each direction, between
/// processes of one host mostly.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    }
}

fn peer_id(certificates: Option<&[CertificateDer<'_>]>) -> io::Result<SpiffeId> {
    let leaf = certificates.and_then(<[_]>::first).ok_or_else(|| invalid("the peer sent no certificate"))?;
    spiffe_id(leaf).map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

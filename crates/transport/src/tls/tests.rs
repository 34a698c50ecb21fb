use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

pub const WEB: &str = "spiffe://test.sinew/ns/test/svc/web/inst/web-1";
pub const ORDERS: &str = "spiffe://test.sinew/ns/test/svc/orders/inst/orders-1";
pub const NAME: &str = "8000.orders.test";

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn identity(&self, uris: &[&str], not_after: Option<i32>) -> Result<Identity, TlsError> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        if let Some(year) = not_after {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity::from_pem(&chain, &key.serialize_pem(), &self.pem, 0)
    }

    pub fn tls(&self, uri: &str) -> Tls {
        Tls::new(&self.identity(&[uri], None).unwrap()).unwrap()
    }
}

/// A handshake between two sides, and one byte each way, so that both have judged the other.
async fn meet(client: &Tls, server: &Tls, expected: &str) -> (io::Result<Stream>, io::Result<Accepted>) {
    let (near, far) = UnixStream::pair().unwrap();
    let dial = async {
        let mut stream =
            client.connect(Raw::Unix(near), NAME, Alpn::Http, |id| id.as_str() == expected).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let accept = async {
        let mut accepted = server.accept(Raw::Unix(far)).await?;
        accepted.stream.write_u8(1).await?;
        accepted.stream.flush().await?;
        accepted.stream.read_u8().await?;
        Ok(accepted)
    };
    tokio::join!(dial, accept)
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let ca = Ca::new();
    let (web, orders) = (ca.tls(WEB), ca.tls(ORDERS));
    // The second and third may be resumed sessions: they are judged as well.
    for _ in 0..3 {
        let (dialed, accepted) = meet(&web, &orders, ORDERS).await;
        dialed.unwrap();
        let accepted = accepted.unwrap();
        assert_eq!(accepted.peer.as_str(), WEB);
        assert_eq!((accepted.server_name.as_str(), accepted.alpn), (NAME, Alpn::Http));
    }
    let (dialed, accepted) = meet(&web, &orders, WEB).await;
    assert_eq!(dialed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    // Whoever is not the expected one is not told who called.
    assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_chain_of_another_ca_is_refused_by_both() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let (dialed, accepted) = meet(&ours.tls(WEB), &theirs.tls(ORDERS), ORDERS).await;
    assert!(dialed.is_err() && accepted.is_err());
    // A client whose chain is foreign, though it trusts our bundle.
    let mut foreign = theirs.identity(&[WEB], None).unwrap();
    foreign.bundle = ours.identity(&[WEB], None).unwrap().bundle;
    let (_, accepted) = meet(&Tls::new(&foreign).unwrap(), &ours.tls(ORDERS), ORDERS).await;
    assert!(accepted.is_err());
}

/// RFC 7301, 3.2: whoever offers nothing that is spoken here is told so, and not by silence after a handshake.
#[tokio::test]
async fn a_client_without_a_common_protocol_is_told_by_an_alert() {
    let ca = Ca::new();
    let (web, orders) = (ca.tls(WEB), ca.tls(ORDERS));
    let mut config = web.client_http.as_ref().clone();
    config.alpn_protocols = vec![b"spdy/1".to_vec()];
    let (near, far) = UnixStream::pair().unwrap();
    let dial = async {
        let name = ServerName::try_from(NAME).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        TlsStream::handshake(Raw::Unix(near), session).await
    };
    let (dialed, accepted) = tokio::join!(dial, orders.accept(Raw::Unix(far)));
    assert!(accepted.is_err());
    let said = dialed.unwrap_err().to_string();
    assert!(said.contains("NoApplicationProtocol"), "{said}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ca = Ca::new();
    let expired = Tls::new(&ca.identity(&[ORDERS], Some(2020)).unwrap()).unwrap();
    let (dialed, _) = meet(&ca.tls(WEB), &expired, ORDERS).await;
    assert_eq!(dialed.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// What was remembered of a chain says nothing of its dates.
#[test]
fn a_chain_that_was_good_expires() {
    let ca = Ca::new();
    let peer = ca.identity(&[WEB], Some(2100)).unwrap();
    let provider = Arc::new(provider());
    let verifier = verifier::BundleVerifier::new(&peer.bundle, &provider).unwrap();
    let check = |year: u64| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 365 * 24 * 3600));
        verifier.verify_client_cert(&peer.chain[0], &[], now).map(drop)
    };
    check(2050).unwrap();
    check(2050).unwrap();
    assert_eq!(check(2110), Err(rustls::CertificateError::Expired.into()));
    check(2050).unwrap();
}

#[test]
fn an_identity_is_exactly_one_spiffe_id() {
    let ca = Ca::new();
    assert_eq!(ca.identity(&[WEB], None).unwrap().id.as_str(), WEB);
    for uris in [&[][..], &[WEB, ORDERS], &["https://example.com/a"]] {
        assert!(ca.identity(uris, None).is_err(), "{uris:?}");
    }
    assert!(Identity::from_pem("", "", "", 0).is_err());
}

#[tokio::test]
async fn what_a_session_has_decrypted_is_not_quiet() {
    let ca = Ca::new();
    let (dialed, accepted) = meet(&ca.tls(WEB), &ca.tls(ORDERS), ORDERS).await;
    let (mut client, mut server) = (dialed.unwrap(), accepted.unwrap().stream);
    assert!(client.is_quiet() && server.is_quiet());
    for _ in 0..2 {
        // Two records are read from the socket at once; the second is not taken.
        for _ in 0..2 {
            server.write_u8(1).await.unwrap();
            server.flush().await.unwrap();
        }
        client.read_u8().await.unwrap();
        assert!(!client.is_quiet());
        client.read_u8().await.unwrap();
        assert!(client.is_quiet());
        std::mem::swap(&mut client, &mut server);
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_does_not_end_in_order() {
    let ca = Ca::new();
    for is_cut in [true, false] {
        let (dialed, accepted) = meet(&ca.tls(WEB), &ca.tls(ORDERS), ORDERS).await;
        let (mut client, mut server) = (dialed.unwrap(), accepted.unwrap().stream);
        if is_cut {
            server.abort();
        } else {
            server.shutdown().await.unwrap();
        }
        drop(server);
        let read = client.read(&mut [0; 1]).await.map_err(|error| error.kind());
        assert_eq!(read, if is_cut { Err(io::ErrorKind::UnexpectedEof) } else { Ok(0) });
    }
}

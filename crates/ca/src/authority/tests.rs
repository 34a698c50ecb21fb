use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use rustls_pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::*;

/// A folder of its own, deleted at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-ca-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn domain() -> TrustDomain {
    TrustDomain::new("cold-store.sinew")
}

fn orders() -> SpiffeId {
    SpiffeId::of_instance(&domain(), &"cold-store".into(), &"orders".into(), &"orders-1".into())
}

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_500)
}

fn request(params: CertificateParams) -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, pem)
}

fn plain_request() -> (KeyPair, String) {
    request(CertificateParams::default())
}

fn der(pem: &str) -> Vec<u8> {
    parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

#[test]
fn a_leaf_says_who_its_holder_is_and_nothing_else() {
    let folder = Folder::new("leaf");
    let authority = Authority::open(&folder.0, &domain(), noon()).unwrap();
    let (key, pem) = plain_request();
    let leaf = authority.issue(&pem, &orders(), noon(), LIFETIME_DEFAULT).unwrap();
    assert_eq!(leaf.not_after, UNIX_EPOCH + Duration::from_secs(1_800_000_000 + 24 * 3600));

    let der = der(&leaf.chain_pem);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(certificate.public_key().subject_public_key.data, key.public_key_raw());
    assert_eq!(certificate.subject().iter().count(), 0);
    assert!(!certificate.is_ca());
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(
        names,
        &vec![GeneralName::URI("spiffe://cold-store.sinew/ns/cold-store/svc/orders/inst/orders-1")]
    );
    assert_eq!(certificate.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature only");
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert_eq!(certificate.validity().not_before.timestamp(), 1_800_000_000 - 300);
    assert_eq!(certificate.validity().not_after.timestamp(), 1_800_000_000 + 24 * 3600);

    let bundle = self::der(authority.bundle_pem());
    let (_, root) = X509Certificate::from_der(&bundle).unwrap();
    certificate.verify_signature(Some(root.public_key())).unwrap();
}

#[test]
fn a_leaf_is_accepted_on_both_sides_of_tls() {
    let folder = Folder::new("webpki");
    let authority = Authority::open(&folder.0, &domain(), noon()).unwrap();
    let leaf = authority.issue(&plain_request().1, &orders(), noon(), LIFETIME_DEFAULT).unwrap();

    let leaf = der(&leaf.chain_pem).into();
    let root = der(authority.bundle_pem()).into();
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let leaf = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_001));
    for usage in [webpki::KeyUsage::client_auth(), webpki::KeyUsage::server_auth()] {
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &[], at, usage, None, None).unwrap();
    }
}

#[test]
fn names_in_a_request_are_ignored() {
    let folder = Folder::new("ignored");
    let authority = Authority::open(&folder.0, &domain(), noon()).unwrap();
    let mut params = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
    let other = "spiffe://cold-store.sinew/ns/cold-store/svc/admin/inst/admin-1";
    params.subject_alt_names.push(SanType::URI(other.try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let leaf = authority.issue(&request(params).1, &orders(), noon(), LIFETIME_DEFAULT).unwrap();

    let der = der(&leaf.chain_pem);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &vec![GeneralName::URI(orders().as_str())]);
    assert!(!certificate.is_ca());
    assert_eq!(certificate.key_usage().unwrap().unwrap().value.flags, 1);
}

#[test]
fn an_identity_of_another_domain_is_refused() {
    let folder = Folder::new("foreign");
    let authority = Authority::open(&folder.0, &domain(), noon()).unwrap();
    for foreign in ["cold-store.sinew.example", "cold-store", "other.sinew"] {
        let id = SpiffeId::of_instance(&foreign.into(), &"cold-store".into(), &"a".into(), &"a-1".into());
        let error = authority.issue(&plain_request().1, &id, noon(), LIFETIME_DEFAULT).unwrap_err();
        assert!(matches!(error, Error::ForeignIdentity { .. }), "{error}");
    }
}

#[test]
fn a_request_that_proves_nothing_is_refused() {
    let folder = Folder::new("wrong");
    let authority = Authority::open(&folder.0, &domain(), noon()).unwrap();
    let (_, good) = plain_request();
    let block = parse_x509_pem(good.as_bytes()).unwrap().1;

    // One bit of the signature flipped: the asker does not hold the key.
    let mut forged = block.contents.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = encode_pem("CERTIFICATE REQUEST", &forged);
    let certificate = authority.bundle_pem().to_owned();
    for wrong in [forged.as_str(), certificate.as_str(), "", "-----BEGIN", &"x".repeat(20_000)] {
        let error = authority.issue(wrong, &orders(), noon(), LIFETIME_DEFAULT).unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error}");
    }
}

#[test]
fn the_root_is_made_once_and_kept_from_others() {
    let folder = Folder::new("root");
    let first = Authority::open(&folder.0, &domain(), noon()).unwrap().bundle_pem().to_owned();
    let again = Authority::open(&folder.0, &domain(), noon() + Duration::from_secs(9)).unwrap();
    assert_eq!(again.bundle_pem(), first);
    let path = folder.0.join("root.pem");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(!again.bundle_pem().contains("PRIVATE"));

    let error = Authority::open(&folder.0, &"other.sinew".into(), noon()).err().unwrap();
    assert!(matches!(error, Error::OtherDomain { .. }), "{error}");

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let error = Authority::open(&folder.0, &domain(), noon()).err().unwrap();
    assert!(matches!(error, Error::RootDamaged { .. }), "{error}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Authority::open(&folder.0, &domain(), noon()).err().unwrap();
    assert!(matches!(error, Error::RootFile { .. }), "{error}");
}

#[test]
fn times_that_no_certificate_can_hold_are_refused() {
    let folder = Folder::new("clock");
    let authority = Authority::open(&folder.0, &domain(), noon()).unwrap();
    for time in [UNIX_EPOCH, UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + Duration::from_secs(1 << 40)] {
        let error = authority.issue(&plain_request().1, &orders(), time, LIFETIME_DEFAULT).unwrap_err();
        assert!(matches!(error, Error::Clock), "{error}");
    }
    let long = authority.issue(&plain_request().1, &orders(), noon(), Duration::MAX).unwrap();
    assert_eq!(long.not_after, UNIX_EPOCH + Duration::from_secs(1_800_000_000) + LIFETIME_MAX);
}

fn encode_pem(tag: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for chunk in der.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63] as char;
            base64.push(if place > chunk.len() { '=' } else { digit });
        }
    }
    format!("-----BEGIN {tag}-----\n{base64}\n-----END {tag}-----\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bytes from outside end in an error or a certificate, never in a panic.
    #[test]
    fn bytes_do_not_panic(at in 0usize..400, byte: u8, tail in proptest::collection::vec(any::<u8>(), 0..64)) {
        thread_local! {
            static AUTHORITY: (Authority, Vec<u8>) = {
                let folder = Folder::new("bytes");
                let authority = Authority::open(&folder.0, &domain(), noon()).unwrap();
                (authority, der(&plain_request().1))
            };
        }
        AUTHORITY.with(|(authority, request)| {
            let mut mutated = request.clone();
            let at = at % mutated.len();
            mutated[at] = byte;
            let _ = authority.issue(&encode_pem("CERTIFICATE REQUEST", &mutated), &orders(), noon(), LIFETIME_DEFAULT);
            let _ = authority.issue(&encode_pem("CERTIFICATE REQUEST", &tail), &orders(), noon(), LIFETIME_DEFAULT);
            let _ = authority.issue(&String::from_utf8_lossy(&tail), &orders(), noon(), LIFETIME_DEFAULT);
        });
    }
}

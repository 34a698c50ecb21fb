//! The hop's TLS, on an address: what openssl and testssl make of it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use sinew_ca::Authority;
use sinew_spec::name::{SpiffeId, TrustDomain};

use super::said;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

/// An application behind the proxy: answers one request.
fn application() -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy calls");
        let mut head = [0; 4096];
        let _ = std::io::Read::read(&mut stream, &mut head).expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nfor its caller").expect("answer");
    });
    (port, thread)
}

/// `name.key`, `name.pem`: of an instance, as the authority certifies it.
pub fn certify(folder: &Path, authority: &Authority, name: &str) {
    let path = |extension: &str| folder.join(format!("{name}.{extension}")).display().to_string();
    said(
        "openssl",
        &["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]
            .into_iter()
            .chain(["-keyout", &path("key"), "-out", &path("csr")])
            .collect::<Vec<_>>(),
    );
    let id =
        SpiffeId::parse(&format!("spiffe://test.sinew/ns/shop/svc/{name}/inst/{name}-1")).expect("an ID");
    let request = fs::read_to_string(path("csr")).expect("openssl made it");
    let leaf =
        authority.issue(&request, &id, SystemTime::now(), Duration::from_secs(3600)).expect("it is good");
    fs::write(path("pem"), leaf.chain_pem).expect("write the chain");
}

struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    fn start(sandbox: &Sandbox) -> Self {
        let port = free_port();
        sandbox.write(
            "proxy.yaml",
            "revision: 1\ntrust_domain: test.sinew\nnamespace: shop\nservice: callee\ninstance: callee-1\n\
             inbound: {protocols: {}, callers: [caller], draining: false}\n\
             destinations: []\negress: []\npublished: []\nlimits: {}\n",
        );
        let hop = format!("127.0.0.1:{port}");
        let child = sandbox
            .command(&["proxy", "--config", "proxy.yaml", "--chain", "callee.pem", "--key", "callee.key"])
            .args(["--bundle", "root.pem", "--hop", &hop])
            .spawn()
            .expect("start the binary under test");
        until("the hop listens", Duration::from_secs(20), || std::net::TcpStream::connect(&hop).ok());
        Self { child, port }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `openssl s_client` until the other side closes: what both streams said.
fn s_client(sandbox: &Sandbox, proxy: &Proxy, sent: &str, arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{}", proxy.port),
            "-CAfile",
            "root.pem",
            "-ign_eof",
        ])
        .args(arguments)
        .current_dir(&sandbox.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo xtask test installs it");
    // It may have been refused before it reads this.
    let _ = child.stdin.as_mut().expect("piped").write_all(sent.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_hop_as_openssl_and_testssl_see_it() {
    let sandbox = Sandbox::new(User::Own, "hop");
    let domain = TrustDomain::new("test.sinew");
    let authority =
        Authority::open(&sandbox.folder.join("ca"), &domain, SystemTime::now()).expect("a new authority");
    sandbox.write("root.pem", authority.bundle_pem());
    for name in ["caller", "callee", "stranger"] {
        certify(&sandbox.folder, &authority, name);
    }
    let proxy = Proxy::start(&sandbox);
    let (port, answering) = application();
    let server_name = format!("{port}.callee.shop");
    let request = format!("GET / HTTP/1.1\r\nhost: callee:{port}\r\nconnection: close\r\n\r\n");
    let named = ["-servername", &server_name, "-alpn", "http/1.1"];
    let with = |more: &[&'static str]| -> Vec<String> {
        named.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let ask = |arguments: Vec<String>| {
        s_client(&sandbox, &proxy, &request, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };

    let said_to_nobody = ask(with(&[]));
    assert!(said_to_nobody.contains("certificate required"), "{said_to_nobody}");
    let old = ask(with(&["-tls1_2", "-cert", "caller.pem", "-key", "caller.key"]));
    assert!(old.contains("alert protocol version"), "{old}");
    let other = ask(with(&["-cert", "stranger.pem", "-key", "stranger.key"]));
    assert!(other.contains("403") && !other.contains("for its caller"), "{other}");
    let no_common_protocol = s_client(
        &sandbox,
        &proxy,
        &request,
        &["-servername", &server_name, "-alpn", "spdy/3", "-cert", "caller.pem", "-key", "caller.key"],
    );
    assert!(no_common_protocol.contains("alert no application protocol"), "{no_common_protocol}");

    let answered = ask(with(&["-cert", "caller.pem", "-key", "caller.key"]));
    assert!(answered.contains("200 OK") && answered.contains("for its caller"), "{answered}");
    assert!(answered.contains("Verify return code: 0 (ok)") && answered.contains("TLSv1.3"), "{answered}");
    answering.join().expect("the application answered once");

    testssl(&sandbox, &proxy, &server_name);
    drop(proxy);
}

/// Protocols, ciphers, key exchange and known attacks. What it says about certificates is about public ones: ours live
/// for hours, need no revocation list and have a SPIFFE ID in place of a host name.
fn testssl(sandbox: &Sandbox, proxy: &Proxy, server_name: &str) {
    let report = sandbox.folder.join("testssl.json");
    let output = Command::new("testssl")
        .args(["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"])
        .args(["--protocols", "--std", "--pfs", "--vulnerable", "--jsonfile"])
        .arg(&report)
        .arg(format!("{server_name}:{}", proxy.port))
        .current_dir(&sandbox.folder)
        .output()
        .expect("cargo xtask test installs it");
    let text = String::from_utf8_lossy(&output.stdout);
    let report = fs::read_to_string(report).unwrap_or_else(|error| panic!("no report: {error}\n{text}"));
    let findings: Vec<serde_json::Value> = serde_json::from_str(&report).expect("it is JSON");
    let severity = |finding: &serde_json::Value| finding["severity"].as_str().unwrap_or_default().to_owned();
    let grave: Vec<_> =
        findings.iter().filter(|f| ["MEDIUM", "HIGH", "CRITICAL"].contains(&&*severity(f))).collect();
    assert!(grave.is_empty(), "{grave:#?}");
    let is_good = |id: &str| findings.iter().any(|f| f["id"] == id && severity(f) == "OK");
    for id in ["TLS1_3", "SSLv3", "heartbleed", "ROBOT", "cipherlist_NULL"] {
        assert!(is_good(id), "`{id}` was not looked at: {text}");
    }
}

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Role, Side};
use crate::certificates::{CIPHER_SUITE, Certificates, SERVER_NAME};

pub fn configure(role: &Role, certificates: &Certificates, folder: &Path) -> Result<Vec<String>> {
    let name = role.name();
    let map = folder.join(format!("haproxy-{name}.map"));
    let routes = (0..100)
        .fold(String::new(), |text, i| text + &format!("svc{}.example.com/api/v{}/ be\n", i / 10, i % 10));
    fs::write(&map, routes)?;
    let bundle = certificates.bundle.display();
    let bind = match role.tls {
        Side::Clients => format!(
            " ssl crt {} ca-file {bundle} verify required ssl-min-ver TLSv1.3 curves X25519 ciphersuites {CIPHER_SUITE}",
            certificates.callee.both.display()
        ),
        _ if role.is_http2() => " proto h2".to_owned(),
        _ => String::new(),
    };
    let server = match role.tls {
        Side::Upstreams => format!(
            " ssl crt {} ca-file {bundle} verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME}) \
             ssl-min-ver TLSv1.3 ciphersuites {CIPHER_SUITE}",
            certificates.caller.both.display()
        ),
        _ if role.is_http2() => " proto h2".to_owned(),
        _ => String::new(),
    };
    let (mode, option, reuse) = match role.is_tcp() {
        true => ("tcp", "option splice-auto", ""),
        false => ("http", "option http-keep-alive", "http-reuse always"),
    };
    let routing = match role.is_tcp() {
        true => "default_backend be".to_owned(),
        false => format!(
            "unique-id-format %[uuid()]\n unique-id-header x-request-id\n \
             http-request set-header traceparent 00-%[uuid()]-01\n \
             use_backend %[base,map_beg({},none)]",
            map.display()
        ),
    };
    // Of TCP, splicing takes two pipes for each connection.
    let maxconn = if role.is_tcp() { 3000 } else { 9800 };
    let mut text = format!(
        "global\n nbthread {}\n maxconn {maxconn}\n tune.idle-pool.shared off\n\
         defaults\n mode {mode}\n timeout connect 5s\n timeout client 600s\n timeout server 600s\n {option}\n\
         frontend f\n bind {}{bind}\n {routing}\n\
         backend be\n balance random(2)\n {reuse}\n",
        role.workers, role.listen
    );
    for (i, port) in role.upstreams.iter().enumerate() {
        let _ = writeln!(text, " server s{i} 127.0.0.1:{port} pool-max-conn -1{server}");
    }
    if !role.is_tcp() {
        text.push_str("backend none\n");
    }
    let path = folder.join(format!("haproxy-{name}.cfg"));
    fs::write(&path, text)?;
    Ok(vec!["-f".to_owned(), path.display().to_string(), "-db".to_owned()])
}

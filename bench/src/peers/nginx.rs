use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Role, Side};
use crate::certificates::{CIPHER_SUITE, Certificates, SERVER_NAME};

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub fn configure(role: &Role, certificates: &Certificates, folder: &Path) -> Result<Vec<String>> {
    let folder_of = folder.join(format!("nginx-{}", role.name()));
    fs::create_dir_all(&folder_of)?;
    let servers = role.upstreams.iter().fold(String::new(), |mut text, port| {
        let _ = write!(text, "server 127.0.0.1:{port} max_fails=0; ");
        text
    });
    let body = if role.is_tcp() { stream(role, &servers) } else { http(role, certificates, &servers) };
    let module = match role.is_tcp() && Path::new(STREAM_MODULE).exists() {
        true => format!("load_module {STREAM_MODULE};\n"),
        false => String::new(),
    };
    let here = folder_of.display();
    // As root it would change to an account that cannot read the run's folder.
    let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
    let text = format!(
        "{module}worker_processes {}; daemon off; {user} pid {here}/pid; error_log {here}/error;\n\
         worker_rlimit_nofile 20000; events {{ worker_connections 19000; }}\n{body}\n",
        role.workers
    );
    let path = folder_of.join("nginx.conf");
    fs::write(&path, text)?;
    Ok(vec!["-p".to_owned(), here.to_string(), "-c".to_owned(), path.display().to_string()])
}

fn stream(role: &Role, servers: &str) -> String {
    format!(
        "stream {{ access_log off; upstream c {{ random two least_conn; {servers} }}\n\
         server {{ listen {} reuseport; proxy_pass c; proxy_buffer_size 64k; tcp_nodelay on; }} }}",
        role.listen
    )
}

fn http(role: &Role, certificates: &Certificates, servers: &str) -> String {
    let bundle = certificates.bundle.display();
    // Upstream it speaks HTTP/2 only as gRPC, one call at a time on a connection.
    let (module, scheme, version) = match role.is_http2() {
        true => ("grpc", "grpc", ""),
        false => ("proxy", "http", "proxy_http_version 1.1; proxy_set_header Connection \"\"; "),
    };
    let secure = if role.tls == Side::Upstreams { "s" } else { "" };
    let mut location = format!(
        "{module}_pass {scheme}{secure}://c; {version}{module}_set_header X-Request-Id $request_id; \
         {module}_set_header traceparent 00-$request_id-b7ad6b7169203331-01; {module}_set_header Host $host; "
    );
    if role.tls == Side::Upstreams {
        let leaf = &certificates.caller;
        let _ = write!(
            location,
            "{module}_ssl_certificate {}; {module}_ssl_certificate_key {}; {module}_ssl_verify on; \
             {module}_ssl_trusted_certificate {bundle}; {module}_ssl_server_name on; \
             {module}_ssl_name {SERVER_NAME}; {module}_ssl_protocols TLSv1.3; \
             {module}_ssl_conf_command Ciphersuites {CIPHER_SUITE}; ",
            leaf.chain.display(),
            leaf.key.display()
        );
    }
    let (ssl, tls) = match role.tls {
        Side::Clients => (
            " ssl",
            format!(
                "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {bundle}; \
                 ssl_verify_client on; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; \
                 ssl_conf_command Ciphersuites {CIPHER_SUITE}; ",
                certificates.callee.chain.display(),
                certificates.callee.key.display()
            ),
        ),
        _ => ("", String::new()),
    };
    let locations =
        (0..10).fold(String::new(), |text, i| text + &format!("location /api/v{i}/ {{ {location} }} "));
    let mut text = format!(
        "http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; tcp_nodelay on;\n\
         upstream c {{ random two least_conn; {servers} keepalive 1024; keepalive_requests 100000000; \
         keepalive_timeout 600s; }}\n"
    );
    for i in 0..10 {
        // None is named as in the handshake: nginx answers 421 when that name and the host choose different servers.
        let first = if i == 0 { " reuseport backlog=4096" } else { "" };
        let http2 = if role.is_http2() { " http2" } else { "" };
        let _ = writeln!(
            text,
            "server {{ listen {}{ssl}{http2}{first}; server_name svc{i}.example.com; {tls}{locations} }}",
            role.listen
        );
    }
    text + "}"
}

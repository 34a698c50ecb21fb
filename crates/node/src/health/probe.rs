//! One probe: what it asks the instance, through sockets that were made inside its seal.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sinew_spec::application::Probe;
use sinew_spec::seal::Command;
use sinew_transport::seal::InitClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Of an answer to an HTTP probe, only the status line matters.
const STATUS_LINE_BYTES_MAX: usize = 256;

/// Where and as whom to probe.
#[derive(Debug)]
pub struct Target<'a> {
    pub init: &'a InitClient,
    pub init_socket: &'a Path,
    /// The service's own command: a probe runs with its environment, user and working folder.
    pub command: &'a Command,
}

/// `Err`: why not, in words.
pub async fn run(probe: &Probe, target: &Target<'_>, timeout: Duration) -> Result<(), String> {
    let asked = async {
        match probe {
            Probe::Tcp { port } => dial(target, *port).await.map(drop),
            Probe::Http { port, path } => http(target, *port, path).await,
            Probe::Command(argv) => command(argv, target).await,
        }
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
    }
}

/// Connects to the instance's loopback, IPv4 first, and then to its own address, for those that listen there only.
async fn dial(target: &Target<'_>, port: u16) -> Result<TcpStream, String> {
    let port = target.command.port(port).ok_or_else(|| format!("port {port} is not declared"))?;
    let mut first_error = None;
    for address in target.command.dialed().map(|address| SocketAddr::new(address, port)) {
        match connect(target.init, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_default())
}

async fn connect(init: &InitClient, address: SocketAddr) -> Result<TcpStream, String> {
    let sockets = init.dial(1, address.is_ipv6()).await.map_err(|error| error.to_string())?;
    let socket = sockets.into_iter().next().ok_or("the init sent no socket")?;
    let connected = TcpSocket::from_std_stream(socket.into()).connect(address).await;
    connected.map_err(|error| format!("port {}: {error}", address.port()))
}

async fn http(target: &Target<'_>, port: u16, path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("port {port}: {error}");
    let mut stream = dial(target, port).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost:{port}\r\nuser-agent: sinew-health\r\naccept: */*\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut line = Vec::with_capacity(STATUS_LINE_BYTES_MAX);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        let mut piece = [0; STATUS_LINE_BYTES_MAX];
        let read = stream.read(&mut piece).await.map_err(failed)?;
        if read == 0 {
            break;
        }
        line.extend_from_slice(&piece[..read]);
    }
    match status_code(&line) {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("GET {path} on port {port}: {code}")),
        None => Err(format!("GET {path} on port {port}: the answer is not HTTP")),
    }
}

/// RFC 9112, section 4: `HTTP/1.1 200 OK`.
fn status_code(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let code = rest.get(2..5)?;
    (rest.get(1) == Some(&b' ')).then_some(())?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

async fn command(argv: &[String], target: &Target<'_>) -> Result<(), String> {
    let nothing = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| format!("opening /dev/null: {error}"))?;
    let init = InitClient::connect(target.init_socket).await.map_err(|error| error.to_string())?;
    let command = Command { argv: argv.to_vec(), ..target.command.clone() };
    let stream = std::os::fd::AsFd::as_fd(&nothing);
    let mut exec = init.exec(command, false, [stream; 3]).await.map_err(|error| error.to_string())?;
    match exec.wait().await {
        Ok(0) => Ok(()),
        Ok(code) => Err(format!("`{}` ended with code {code}", argv.join(" "))),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(status_code(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_code(b"HTTP/1.0 503 x\r\n"), Some(503));
        for other in [
            &b""[..],
            b"HTTP/1.1",
            b"HTTP/2 200\r\n",
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1x200",
            b"HTTP/1.1 \xff\xff\xff",
        ] {
            assert_eq!(status_code(other), None, "{other:?}");
        }
    }
}

//! One probe: what it asks the instance, through sockets that were made inside its seal.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use sinew_spec::application::Probe;
use sinew_spec::seal::Command;
use sinew_transport::seal::InitClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::net::{TcpSocket, TcpStream};

/// Of an answer to an HTTP probe, only the status line matters.
const STATUS_LINE_BYTES_MAX: usize = 256;
/// Of what a check writes, the last line is told.
const WORDS_BYTES_MAX: usize = 512;

/// Where and as whom to probe.
#[derive(Debug)]
pub struct Target<'a> {
    pub init: &'a InitClient,
    pub init_socket: &'a Path,
    /// The service's own command: a probe runs with its environment, user and working folder.
    pub command: &'a Command,
}

/// What is asked: `GET /health on port 8000`.
pub fn in_words(probe: &Probe) -> String {
    match probe {
        Probe::Tcp { port } => format!("port {port}"),
        Probe::Http { port, path } => format!("GET {path} on port {port}"),
        Probe::Command(argv) => format!("`{}`", argv.join(" ")),
    }
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
        Err(_) => Err(format!("{}: no answer within {} ms", in_words(probe), timeout.as_millis())),
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
    let nothing = std::fs::File::open("/dev/null").map_err(|error| format!("opening /dev/null: {error}"))?;
    let piped = |error: std::io::Error| format!("making a pipe for the check: {error}");
    let (said, inside) = std::io::pipe().map_err(piped)?;
    let init = InitClient::connect(target.init_socket).await.map_err(|error| error.to_string())?;
    let command = Command { argv: argv.to_vec(), ..target.command.clone() };
    let streams = [nothing.as_fd(), inside.as_fd(), inside.as_fd()];
    let mut exec = init.exec(command, streams).await.map_err(|error| error.to_string())?;
    drop(inside);
    let mut said = Receiver::from_owned_fd(said.into()).map_err(piped)?;
    let mut words = Vec::new();
    let code = tokio::select! {
        biased;
        // Read on while it runs, or a talkative check would wait for us.
        () = hear(&mut said, &mut words) => exec.wait().await,
        code = exec.wait() => {
            // What it wrote is there by now; what it left running may hold the pipe for ever.
            let _ = tokio::time::timeout(Duration::ZERO, hear(&mut said, &mut words)).await;
            code
        }
    };
    match code {
        Ok(0) => Ok(()),
        Ok(code) => {
            let said = last_line(&words).map(|line| format!(": {line}")).unwrap_or_default();
            Err(format!("`{}` ended with code {code}{said}", argv.join(" ")))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Until the end of the pipe. The last [`WORDS_BYTES_MAX`] bytes or so are kept. Safe to cancel.
async fn hear(from: &mut Receiver, words: &mut Vec<u8>) {
    let mut piece = [0; WORDS_BYTES_MAX];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        words.extend_from_slice(&piece[..length]);
        words.drain(..words.len().saturating_sub(WORDS_BYTES_MAX));
    }
}

/// What a check says last is what it failed of.
fn last_line(words: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(words);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|character| !character.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_check_are_told() {
        assert_eq!(last_line(b"").as_deref(), None);
        assert_eq!(last_line(b"one\n\x1b[31mtwo \r\n\n").as_deref(), Some("[31mtwo"));
    }

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

//! Asks a proxy for its counters: `GET /stats.json` on its admin socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use sinew_spec::status::ProxyStats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_millis(500);
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

pub async fn fetch(admin: &Path) -> io::Result<ProxyStats> {
    let asked = async {
        let mut stream = UnixStream::connect(admin).await?;
        stream.write_all(b"GET /stats.json HTTP/1.1\r\nhost: sinew\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        parse(&answer)
    };
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Our own proxy answers with a length, never in chunks.
fn parse(answer: &[u8]) -> io::Result<ProxyStats> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| invalid("an answer without an end of its head".to_owned()))?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        let line = String::from_utf8_lossy(answer).lines().next().unwrap_or_default().to_owned();
        return Err(invalid(line));
    }
    serde_json::from_slice(&answer[head + 4..]).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_success_with_json_counts() {
        let json = serde_json::to_string(&ProxyStats::default()).expect("serializes");
        let ok = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{json}", json.len());
        assert_eq!(parse(ok.as_bytes()).expect("parsed"), ProxyStats::default());
        for other in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 404 x\r\n\r\n{}", "HTTP/1.1 200 OK\r\n\r\n{"] {
            assert!(parse(other.as_bytes()).is_err(), "{other:?}");
        }
    }
}

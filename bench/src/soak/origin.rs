//! The application of a soak: does what the path says, well or badly.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;

pub const LARGE_BYTES: usize = 1 << 20;
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Of a thread for each connection, of which there may be many.
const STACK_BYTES: usize = 64 * 1024;

/// One for all connections: filling it anew for each would cost more than a proxy's part of a request.
static LARGE: [u8; LARGE_BYTES] = [b'x'; LARGE_BYTES];

/// Serves connections, a thread for each, for the rest of the process's life.
pub fn serve(listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(false)?;
    std::thread::Builder::new().name("origin".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            // However a connection ends: that is for the clients to judge. So is one that nobody serves.
            let _ = thread.spawn(move || connection(stream));
        }
    })?;
    Ok(())
}

fn connection(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut body = Vec::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        body.clear();
        read_body(&mut reader, &mut body)?;
        match path.as_str() {
            "/large" => {
                write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n")?;
                writer.write_all(&LARGE)?;
            }
            "/echo" => {
                let mut answer =
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-length\r\n\r\n".to_vec();
                for part in body.chunks(10_000) {
                    write!(answer, "{:x}\r\n", part.len())?;
                    answer.extend_from_slice(part);
                    answer.extend_from_slice(b"\r\n");
                }
                write!(answer, "0\r\nx-length: {}\r\n\r\n", body.len())?;
                writer.write_all(&answer)?;
            }
            "/cut" => {
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")?;
                return Ok(());
            }
            "/silent" => return Ok(()),
            "/garbage" => {
                writer.write_all(b"HTP/9 what\r\n\r\n")?;
                return Ok(());
            }
            _ => writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsmall")?,
        }
    }
}

/// The rest of a head, and the body, by its length or its chunks.
fn read_body(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    let (mut length, mut is_chunked) = (0, false);
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let field = line.trim_end().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        is_chunked |= field.starts_with("transfer-encoding:");
    }
    if !is_chunked {
        reader.by_ref().take(length).read_to_end(body)?;
        return Ok(());
    }
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        reader.by_ref().take(length).read_to_end(body)?;
        // What ends a chunk; after the last one, trailers.
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
        }
        if length == 0 {
            return Ok(());
        }
    }
}

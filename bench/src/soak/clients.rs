//! The kinds of clients. A round is one connection (or one run of a client that others wrote), from beginning to end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Soak;
use super::origin::LARGE_BYTES;
use crate::process::pause;

pub struct Kind {
    /// For `--only`.
    pub word: &'static str,
    pub name: &'static str,
    pub threads: usize,
    /// How many requests ended as they have to.
    pub round: fn(&Soak) -> Result<u64>,
}

pub const KINDS: [Kind; 9] = [
    Kind { word: "pipelined", name: "HTTP/1.1, pipelined, kept alive", threads: 6, round: pipelined },
    Kind { word: "http2", name: "HTTP/2, eight connections of 32 streams", threads: 1, round: http2 },
    Kind { word: "fresh", name: "HTTP/1.1, a connection each", threads: 1, round: fresh },
    Kind { word: "bodies", name: "bodies both ways, chunked, with trailers", threads: 1, round: bodies },
    Kind { word: "reset", name: "1 MiB, reset in the middle", threads: 1, round: reset },
    Kind { word: "slow", name: "1 MiB, read slowly", threads: 16, round: slow },
    Kind { word: "malformed", name: "malformed: refused", threads: 1, round: malformed },
    Kind { word: "answers", name: "answers that are cut, absent or garbage", threads: 1, round: bad_answers },
    Kind { word: "http2-resets", name: "HTTP/2, streams reset at once", threads: 1, round: http2_resets },
];

/// Of those who do harm: most requests are to be ordinary ones.
const PACE: Duration = Duration::from_millis(20);
const ANSWER_MAX: Duration = Duration::from_secs(30);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: soak\r\n\r\n";
const GET_LARGE: &[u8] = b"GET /large HTTP/1.1\r\nHost: soak\r\n\r\n";

struct Client {
    reader: BufReader<TcpStream>,
}

struct Answer {
    status: u16,
    body: usize,
    trailers: Vec<String>,
}

impl Client {
    fn connect(soak: &Soak) -> Result<Self> {
        let stream = TcpStream::connect(soak.target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Self { reader: BufReader::with_capacity(64 * 1024, stream) })
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// The next answer, whole.
    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        ensure!(self.reader.read_line(&mut line)? > 0, "closed instead of an answer");
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("no status line: {line:?}"))?;
        let fields = self.fields()?;
        let length = fields.iter().find_map(|field| field.strip_prefix("content-length: ")?.parse().ok());
        if let Some(length) = length {
            let read = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink())?;
            ensure!(read == length, "{read} of {length} bytes");
            return Ok(Answer { status, body: length as usize, trailers: Vec::new() });
        }
        let mut body = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim_end(), 16).context("a chunk's size")?;
            if length == 0 {
                return Ok(Answer { status, body: body as usize, trailers: self.fields()? });
            }
            body += io::copy(&mut self.reader.by_ref().take(length), &mut io::sink())?;
            line.clear();
            self.reader.read_line(&mut line)?;
        }
    }

    fn fields(&mut self) -> Result<Vec<String>> {
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(self.reader.read_line(&mut line)? > 0, "closed within a head");
            if line.trim_end().is_empty() {
                return Ok(fields);
            }
            fields.push(line.trim_end().to_ascii_lowercase());
        }
    }

    /// Ends the connection with RST: what is in its buffers is thrown away.
    fn reset(self) -> Result<()> {
        let stream = self.reader.into_inner();
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)?;
        Ok(())
    }
}

fn pipelined(soak: &Soak) -> Result<u64> {
    const DEPTH: usize = 16;
    const BATCHES: u64 = 200;
    let batch = GET.repeat(DEPTH);
    let mut client = Client::connect(soak)?;
    for _ in 0..BATCHES {
        client.send(&batch)?;
        for _ in 0..DEPTH {
            let answer = client.answer()?;
            ensure!(answer.status == 200 && answer.body == 5, "status {}", answer.status);
        }
    }
    Ok(BATCHES * DEPTH as u64)
}

fn http2(soak: &Soak) -> Result<u64> {
    const REQUESTS: u64 = 20_000;
    let output = Command::new("h2load")
        .args(["-n", &REQUESTS.to_string(), "-c", "8", "-m", "32", &format!("http://{}/", soak.target)])
        .output()
        .context("h2load (Debian: nghttp2-client) does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        text.contains(&format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")),
        "h2load: {}",
        text.lines().filter(|line| line.contains("requests:") || line.contains("status")).collect::<String>()
    );
    Ok(REQUESTS)
}

fn fresh(soak: &Soak) -> Result<u64> {
    let mut client = Client::connect(soak)?;
    client.send(b"GET / HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")?;
    let status = client.answer()?.status;
    ensure!(status == 200, "status {status}");
    ensure!(client.reader.read(&mut [0])? == 0, "more than an answer");
    Ok(1)
}

fn bodies(soak: &Soak) -> Result<u64> {
    const SIZES: [usize; 6] = [0, 1, 1000, 16 * 1024, 100_000, 300_000];
    let mut client = Client::connect(soak)?;
    for (number, size) in SIZES.into_iter().enumerate() {
        let body = vec![b'y'; size];
        if number % 2 == 0 {
            client.send(
                format!("POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: {size}\r\n\r\n").as_bytes(),
            )?;
            client.send(&body)?;
        } else {
            client.send(b"POST /echo HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for part in body.chunks(5000) {
                client.send(&[format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat())?;
            }
            client.send(b"0\r\nx-trailer: yes\r\n\r\n")?;
        }
        let answer = client.answer()?;
        ensure!(answer.status == 200 && answer.body == size, "{}, {} of {size}", answer.status, answer.body);
        let length = format!("x-length: {size}");
        ensure!(answer.trailers.contains(&length), "trailers {:?}", answer.trailers);
    }
    Ok(SIZES.len() as u64)
}

fn reset(soak: &Soak) -> Result<u64> {
    let mut client = Client::connect(soak)?;
    client.send(GET_LARGE)?;
    client.reader.read_exact(&mut [0; 3000])?;
    client.reset()?;
    let mut client = Client::connect(soak)?;
    client.send(b"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: 100000\r\n\r\nno more than this")?;
    client.reset()?;
    pause(PACE);
    Ok(2)
}

fn slow(soak: &Soak) -> Result<u64> {
    const STEP_BYTES: usize = 16 * 1024;
    let mut client = Client::connect(soak)?;
    client.send(GET_LARGE)?;
    let mut step = vec![0; STEP_BYTES];
    let mut read = 0;
    while read < LARGE_BYTES {
        let rest = STEP_BYTES.min(LARGE_BYTES - read);
        client.reader.read_exact(&mut step[..rest])?;
        read += rest;
        pause(Duration::from_millis(100));
        if soak.is_over() {
            return Ok(1);
        }
    }
    Ok(1)
}

fn malformed(soak: &Soak) -> Result<u64> {
    const REQUESTS: [(&[u8], u16); 6] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: \0\r\n\r\n", 400),
    ];
    for (bytes, status) in REQUESTS {
        let mut client = Client::connect(soak)?;
        client.send(bytes)?;
        let answer = client.answer()?;
        ensure!(answer.status == status, "{} for {}", answer.status, String::from_utf8_lossy(bytes));
        ensure!(client.reader.read(&mut [0])? == 0, "not closed after a malformed request");
    }
    pause(PACE);
    Ok(REQUESTS.len() as u64)
}

fn bad_answers(soak: &Soak) -> Result<u64> {
    let mut client = Client::connect(soak)?;
    for path in ["/garbage", "/silent"] {
        client
            .send(format!("POST {path} HTTP/1.1\r\nHost: soak\r\nContent-Length: 2\r\n\r\nhi").as_bytes())?;
        let status = client.answer()?.status;
        ensure!(status == 502, "status {status} for {path}");
    }
    client.send(b"GET /cut HTTP/1.1\r\nHost: soak\r\n\r\n")?;
    let mut text = Vec::new();
    // However it ends, it does not end as if it were whole.
    let _ = client.reader.read_to_end(&mut text);
    ensure!(text.starts_with(b"HTTP/1.1 200") || text.starts_with(b"HTTP/1.1 502"), "a cut answer");
    if text.starts_with(b"HTTP/1.1 200") {
        ensure!(text.ends_with(b"\r\n\r\nhalf"), "a cut answer was completed");
    }
    Ok(3)
}

/// Few enough for any limit on floods, from each connection.
fn http2_resets(soak: &Soak) -> Result<u64> {
    const STREAMS: u32 = 40;
    let mut stream = TcpStream::connect(soak.target)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, 4, 0, 0, &[]);
    for number in 0..STREAMS {
        let id = 2 * number + 1;
        // GET, http, `/`, and the authority as a literal that is not indexed (RFC 7541, section 6.2.2).
        let mut head = vec![0x82, 0x86, 0x84, 0x01, 4];
        head.extend_from_slice(b"soak");
        // END_HEADERS, END_STREAM
        frame(&mut bytes, 1, 0x5, id, &head);
        // CANCEL
        frame(&mut bytes, 3, 0, id, &8_u32.to_be_bytes());
    }
    // NO_ERROR, no stream of the server's.
    frame(&mut bytes, 7, 0, 0, &[0; 8]);
    stream.write_all(&bytes)?;
    stream.shutdown(Shutdown::Write)?;
    // It has said goodbye, so that it may be left without a word; a connection that stays open is waited for in vain.
    stream.read_to_end(&mut Vec::new())?;
    pause(PACE);
    Ok(u64::from(STREAMS))
}

/// RFC 9113, section 4.1
fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

//! HTTP/1.1 over a Unix socket, one request per connection: as much of it as an engine of this host speaks. The engine
//! is trusted (it could do everything anyway); all the same nothing is read without a bound.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{Engine, EngineError};

/// For an answer that needs no work to be made outside of the machine.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);
/// Between two bytes of a pull or a build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
const LINE_BYTES_MAX: u64 = 16 * 1024;
const FIELDS_MAX: usize = 100;
/// Of an answer that is read as a whole.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(crate) enum Body<'a> {
    Empty,
    Json(Vec<u8>),
    /// Sent in chunks as it is read.
    Tar(&'a mut dyn Read),
}

pub(crate) struct Request<'a> {
    pub method: &'static str,
    /// With its query.
    pub path: String,
    pub body: Body<'a>,
    pub headers: Vec<(&'static str, String)>,
    /// `None`: an answer may take for ever.
    pub timeout: Option<Duration>,
    /// For messages: "creating the container x".
    pub attempted: String,
}

impl Request<'_> {
    pub fn new(method: &'static str, path: impl Into<String>, attempted: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: Body::Empty,
            headers: Vec::new(),
            timeout: Some(ANSWER),
            attempted: attempted.into(),
        }
    }

    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Body::Json(body.to_string().into_bytes());
        self
    }

    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }
}

/// An answer with a good status.
pub(crate) struct Response {
    pub status: u16,
    attempted: String,
    body: BodyReader,
}

/// A connection that carries the streams of a process now.
#[derive(Debug)]
pub struct Upgraded {
    pub stream: UnixStream,
    /// What came along with the answer's head; to be taken first.
    pub early: Vec<u8>,
}

impl Engine {
    /// Statuses of 400 and above are errors with the engine's words.
    pub(crate) fn send(&self, request: Request<'_>) -> Result<Response, EngineError> {
        let attempted = request.attempted.clone();
        let response = self.exchange(request).map_err(|source| EngineError::Io { attempted, source })?;
        if response.status < 400 {
            return Ok(response);
        }
        let (status, attempted) = (response.status, response.attempted.clone());
        let mut text = Vec::new();
        // Its words help where they can be read; the status alone is an answer too.
        let _ = response.body.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
        Err(EngineError::Refused { attempted, status, message: words(status, &text) })
    }

    fn exchange(&self, mut request: Request<'_>) -> io::Result<Response> {
        let mut reader = BufReader::new(self.write(&mut request, "close")?);
        let head = Head::read(&mut reader)?;
        let kind = if head.status == 204 || head.status == 304 {
            Kind::Left(0)
        } else if head.is_chunked {
            Kind::Chunked { left: 0, begun: false }
        } else {
            head.length.map_or(Kind::UntilEnd, Kind::Left)
        };
        Ok(Response { status: head.status, attempted: request.attempted, body: BodyReader { reader, kind } })
    }

    /// Asks for the streams of a process.
    pub(crate) fn upgrade(&self, mut request: Request<'_>) -> Result<Upgraded, EngineError> {
        request.headers.push(("Upgrade", "tcp".to_owned()));
        let attempted = request.attempted.clone();
        let failed = |source| EngineError::Io { attempted: attempted.clone(), source };
        let mut reader = BufReader::new(self.write(&mut request, "Upgrade").map_err(failed)?);
        let head = Head::read(&mut reader).map_err(failed)?;
        if head.status >= 400 {
            let mut text = vec![0; head.length.unwrap_or(0).min(ANSWER_BYTES_MAX) as usize];
            let _ = reader.read_exact(&mut text);
            let message = words(head.status, &text);
            return Err(EngineError::Refused { attempted, status: head.status, message });
        }
        let early = reader.buffer().to_vec();
        let stream = reader.into_inner();
        stream.set_read_timeout(None).map_err(failed)?;
        Ok(Upgraded { stream, early })
    }

    fn write(&self, request: &mut Request<'_>, connection: &str) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(request.timeout)?;
        stream.set_write_timeout(request.timeout)?;
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: engine\r\nUser-Agent: sinew\r\nConnection: {connection}\r\n",
            request.method, request.path
        );
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut writer = &stream;
        match &mut request.body {
            Body::Empty => {
                head.push_str("Content-Length: 0\r\n\r\n");
                writer.write_all(head.as_bytes())?;
            }
            Body::Json(bytes) => {
                let length = bytes.len();
                head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"));
                writer.write_all(head.as_bytes())?;
                writer.write_all(bytes)?;
            }
            Body::Tar(from) => {
                head.push_str("Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n");
                writer.write_all(head.as_bytes())?;
                write_chunks(from, &mut writer)?;
            }
        }
        Ok(stream)
    }
}

fn write_chunks(from: &mut dyn Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        write!(to, "{length:x}\r\n")?;
        to.write_all(&buffer[..length])?;
        to.write_all(b"\r\n")?;
        if length == 0 {
            return Ok(());
        }
    }
}

impl Response {
    /// The whole answer, which must be JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, EngineError> {
        let Self { attempted, body, .. } = self;
        let mut bytes = Vec::new();
        body.take(ANSWER_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|source| EngineError::Io { attempted: attempted.clone(), source })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| EngineError::Malformed { attempted, reason: error.to_string() })
    }

    /// The answer as it comes.
    pub fn body(self) -> BodyReader {
        self.body
    }

    /// Reads and forgets: the engine has done its work when its answer ends.
    pub fn finish(self) -> Result<(), EngineError> {
        let Self { attempted, mut body, .. } = self;
        io::copy(&mut body, &mut io::sink()).map_err(|source| EngineError::Io { attempted, source })?;
        Ok(())
    }
}

struct Head {
    status: u16,
    length: Option<u64>,
    is_chunked: bool,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let status = line(reader)?;
        let status = status
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok())
            .ok_or_else(|| malformed(format!("no HTTP: {status:?}")))?;
        let mut head = Self { status, length: None, is_chunked: false };
        for _ in 0..FIELDS_MAX {
            let field = line(reader)?;
            if field.is_empty() {
                return Ok(head);
            }
            let Some((name, value)) = field.split_once(':') else {
                return Err(malformed(format!("no field: {field:?}")));
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.length = Some(value.parse().map_err(|_| malformed(format!("a length of {value:?}")))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.is_chunked = value.eq_ignore_ascii_case("chunked");
            }
        }
        Err(malformed(format!("more than {FIELDS_MAX} fields")))
    }
}

/// Without its end.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    reader.take(LINE_BYTES_MAX).read_line(&mut text)?;
    let Some(whole) = text.strip_suffix('\n') else {
        return Err(match text.len() {
            0 => io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up without an answer"),
            _ => malformed("a line that does not end".to_owned()),
        });
    };
    Ok(whole.strip_suffix('\r').unwrap_or(whole).to_owned())
}

fn malformed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

enum Kind {
    Left(u64),
    /// `begun`: a chunk was read before, whose line end is due.
    Chunked {
        left: u64,
        begun: bool,
    },
    UntilEnd,
}

pub(crate) struct BodyReader {
    reader: BufReader<UnixStream>,
    kind: Kind,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Kind::Chunked { left: 0, begun } = self.kind {
            if begun {
                line(&mut self.reader)?;
            }
            let size = line(&mut self.reader)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let left =
                u64::from_str_radix(size, 16).map_err(|_| malformed(format!("a chunk of {size:?}")))?;
            if left == 0 {
                self.kind = Kind::Left(0);
                return Ok(0);
            }
            self.kind = Kind::Chunked { left, begun: true };
        }
        match &mut self.kind {
            Kind::UntilEnd => self.reader.read(buffer),
            Kind::Left(left) | Kind::Chunked { left, .. } => {
                if *left == 0 {
                    return Ok(0);
                }
                let most = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let length = self.reader.read(&mut buffer[..most])?;
                if length == 0 && most > 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off"));
                }
                *left -= length as u64;
                Ok(length)
            }
        }
    }
}

/// For a query: everything but what needs no quoting (RFC 3986, section 2.3).
pub(crate) fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// What the engine says of an error: `{"message": …}`, Podman with the `cause` besides.
fn words(status: u16, text: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Words {
        message: String,
    }
    match serde_json::from_slice::<Words>(text) {
        Ok(Words { message }) if !message.is_empty() => message,
        _ => format!("status {status}"),
    }
}

#[cfg(test)]
mod tests;

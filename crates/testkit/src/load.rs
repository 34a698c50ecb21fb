//! Open-loop HTTP/1.1 load over keep-alive connections. Latency counts from the moment at which a request should have
//! been sent, so that a stall is felt by every request that it delayed (no coordinated omission).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Options {
    pub address: SocketAddr,
    pub host: String,
    pub path: String,
    /// `Some`: POST with this body. No proxy may repeat it once it was sent, so that it is the harder load.
    pub body: Option<String>,
    pub requests_per_second: u32,
    /// Each is one thread and one connection.
    pub connections: u32,
    pub answer_timeout: Duration,
    /// The load ends by itself after this, whatever happens.
    pub time_max: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sent: u64,
    pub succeeded: u64,
    /// What went wrong, and when (milliseconds since the start).
    pub failed: Vec<(u64, String)>,
    /// Answers by body, cut to 64 bytes: who served.
    pub served_by: BTreeMap<String, u64>,
    pub latency_ms: Vec<f64>,
}

impl Report {
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let mut sorted = self.latency_ms.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            length => sorted[((length - 1) as f64 * quantile).round() as usize],
        }
    }

    fn add(&mut self, other: Report) {
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.failed.extend(other.failed);
        for (name, count) in other.served_by {
            *self.served_by.entry(name).or_default() += count;
        }
        self.latency_ms.extend(other.latency_ms);
    }
}

pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Report>>,
}

impl Load {
    pub fn start(options: Options) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let threads = (0..options.connections)
            .map(|number| {
                let (options, stop, answered) = (options.clone(), stop.clone(), answered.clone());
                std::thread::spawn(move || {
                    Client { options, start, answered, stream: None }.run(number, &stop)
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    /// Answers so far, good or bad.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests were answered.
    pub fn pass(&self, count: u64) {
        let goal = self.answered() + count;
        while self.answered() < goal && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for thread in self.threads {
            report.add(thread.join().expect("a load thread does not panic"));
        }
        report.failed.sort();
        report
    }
}

struct Client {
    options: Options,
    start: Instant,
    answered: Arc<AtomicU64>,
    stream: Option<TcpStream>,
}

impl Client {
    fn run(mut self, number: u32, stop: &AtomicBool) -> Report {
        let mut report = Report::default();
        let step = Duration::from_secs(1) / self.options.requests_per_second;
        let mut due = step * number;
        while !stop.load(Ordering::Relaxed) && due < self.options.time_max {
            let intended = self.start + due;
            due += step * self.options.connections;
            while let Some(rest) =
                intended.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
            {
                std::thread::park_timeout(rest);
            }
            report.sent += 1;
            match self.exchange() {
                Ok(body) => {
                    report.succeeded += 1;
                    report.latency_ms.push(intended.elapsed().as_secs_f64() * 1e3);
                    *report.served_by.entry(body).or_default() += 1;
                }
                Err(error) => {
                    self.stream = None;
                    report.failed.push((self.start.elapsed().as_millis() as u64, error.to_string()));
                }
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        report
    }

    fn exchange(&mut self) -> io::Result<String> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let Options { host, path, body, .. } = &self.options;
        let request = match body {
            None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            Some(body) => {
                let length = body.len();
                format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}")
            }
        };
        stream.write_all(request.as_bytes())?;
        let (body, keep) = answer(&mut stream)?;
        self.stream = keep.then_some(stream);
        Ok(body)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.options.address, self.options.answer_timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.options.answer_timeout))?;
        Ok(stream)
    }
}

/// The body's beginning, and whether the connection goes on.
fn answer(stream: &mut TcpStream) -> io::Result<(String, bool)> {
    let mut bytes = Vec::with_capacity(1024);
    let mut part = [0; 4096];
    let head_bytes = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut part)? {
            0 => return Err(io::Error::other(format!("closed after {} bytes of an answer", bytes.len()))),
            count => bytes.extend_from_slice(&part[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_bytes]).to_ascii_lowercase();
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
    };
    let length: usize = field("content-length")
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| io::Error::other(format!("an answer without length: {head}")))?;
    while bytes.len() < head_bytes + length {
        match stream.read(&mut part)? {
            0 => return Err(io::Error::other("closed within an answer's body")),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
    let body = String::from_utf8_lossy(&bytes[head_bytes..]).chars().take(64).collect::<String>();
    if !head.starts_with("http/1.1 2") {
        return Err(io::Error::other(format!("{} {body}", head.lines().next().unwrap_or_default())));
    }
    Ok((body, field("connection").as_deref() != Some("close")))
}

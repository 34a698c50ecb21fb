//! The load generator: clients and the origin in one thread with one epoll, so that one other core is all it needs and
//! little of that is spent on itself.
//!
//! *Closed loop*: every client sends its next request when it has its answer; saturates. *Open loop*: requests are due at
//! a fixed rate whatever happens, and latency counts from the moment at which a request was due, so that a stall is felt
//! by all that it delayed (no coordinated omission).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use memchr::memmem;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

mod http2;

use crate::link::{Link, Secured};
use crate::origin::{Origin, Seen, Served, answer};

/// Without an answer of anybody for so long, a run has failed.
const STALL_MAX: Duration = Duration::from_secs(20);
const BUFFER_BYTES: usize = 256 * 1024;
const TIMER: u64 = u64::MAX;

/// What is asked of the proxy.
#[derive(Clone)]
pub struct Work {
    pub connections: usize,
    /// HTTP/2 with so many requests under way on each connection; `None`: HTTP/1.1, or whatever takes its bytes.
    pub streams: Option<usize>,
    /// Answered before anything is measured.
    pub warm: u64,
    pub requests: u64,
    /// `None`: closed loop.
    pub requests_per_second: Option<u32>,
    /// Of connections that have a request under way at once, in the closed loop.
    pub active_max: usize,
    pub request_body: usize,
    pub answer_body: usize,
    /// A new connection (with a full handshake) for every request.
    pub fresh: bool,
    pub secured: Option<Secured>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub answered: u64,
    pub failed: u64,
    pub seconds: f64,
    /// Sorted.
    pub latency_ns: Vec<u64>,
    pub seen: Seen,
}

impl Outcome {
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        match self.latency_ns.len() {
            0 => f64::NAN,
            length => self.latency_ns[((length - 1) as f64 * quantile) as usize] as f64 / 1e3,
        }
    }
}

enum Party {
    Listener(usize),
    Served(Box<Served>),
    Client(Box<Client>),
    ServedHttp2(Box<http2::Served>),
    ClientHttp2(Box<http2::Client>),
    Gone,
}

struct Client {
    link: Link,
    /// The request that is being sent: how much of it is out.
    sent: usize,
    /// When it was due; `None`: no request is under way.
    due: Option<Instant>,
    head: Vec<u8>,
    /// Of the answer, once its head is known: bytes still to come.
    left: Option<usize>,
}

/// Clients stay connected until this is dropped, so that memory can be looked at.
pub struct Load<'a> {
    origin: &'a Origin,
    epoll: Epoll,
    parties: Vec<Party>,
    work: Work,
    target: SocketAddr,
    request: Vec<u8>,
    answer: Rc<[u8]>,
    messages: http2::Messages,
    buffer: Vec<u8>,
    seen: Seen,
    /// Clients that may send a request: of HTTP/2 once for each stream.
    free: VecDeque<usize>,
    /// Clients of HTTP/2 that have something to write.
    unwritten: Vec<usize>,
    /// Empty but while a client of HTTP/2 reads.
    answered_http2: Vec<Instant>,
    started: u64,
    answered: u64,
    failed: u64,
    first_failure: Option<String>,
    latency_ns: Vec<u64>,
}

impl<'a> Load<'a> {
    pub fn connect(origin: &'a Origin, target: SocketAddr, work: Work) -> Result<Self> {
        let mut load = Self {
            origin,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            parties: Vec::new(),
            target,
            request: request(work.request_body),
            answer: answer(work.answer_body),
            messages: http2::Messages::new(work.request_body, work.answer_body),
            buffer: vec![0; BUFFER_BYTES],
            seen: Seen::default(),
            free: VecDeque::new(),
            unwritten: Vec::new(),
            answered_http2: Vec::new(),
            started: 0,
            answered: 0,
            failed: 0,
            first_failure: None,
            latency_ns: Vec::with_capacity(work.requests as usize),
            work,
        };
        for (number, listener) in origin.listeners.iter().enumerate() {
            load.watch(Party::Listener(number), listener, EpollFlags::EPOLLIN)?;
        }
        let connections = if load.work.fresh { 0 } else { load.work.connections };
        for number in 0..connections {
            let id = load.client()?;
            load.set_free(id);
            // Connections that nobody accepts yet fill the queue of the proxy.
            if number % 64 == 63 {
                load.turn(Duration::from_millis(1))?;
            }
        }
        Ok(load)
    }

    /// `measuring` is called when the warm-up is over.
    pub fn run(&mut self, measuring: &mut dyn FnMut()) -> Result<Outcome> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        self.epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        let total = self.work.warm + self.work.requests;
        let step = self.work.requests_per_second.map(|rate| Duration::from_secs(1) / rate);
        let mut due = Instant::now();
        let mut queue: VecDeque<Instant> = VecDeque::new();
        let mut measured_at = None;
        let mut progress = (0, Instant::now());
        loop {
            if measured_at.is_none() && self.answered + self.failed >= self.work.warm {
                measuring();
                self.latency_ns.clear();
                measured_at = Some((Instant::now(), self.answered, self.failed));
                // What was due meanwhile was delayed by the measuring alone.
                due = due.max(Instant::now());
            }
            if self.answered + self.failed >= total {
                break;
            }
            let now = Instant::now();
            match step {
                None => self.saturate(total)?,
                Some(step) => {
                    while due <= now && self.started + (queue.len() as u64) < total {
                        queue.push_back(due);
                        due += step;
                    }
                    while let Some(at) = queue.pop_front() {
                        let Some(id) = self.next_client()? else {
                            queue.push_front(at);
                            break;
                        };
                        self.fire(id, at);
                    }
                    self.write_http2();
                    let rest = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                    timer.set(
                        Expiration::OneShot(TimeSpec::from_duration(rest)),
                        TimerSetTimeFlags::empty(),
                    )?;
                }
            }
            self.turn(Duration::from_secs(1))?;
            let count = self.answered + self.failed;
            if count > progress.0 {
                progress = (count, Instant::now());
            } else if progress.1.elapsed() > STALL_MAX {
                bail!("no answer for {STALL_MAX:?} after {count} of {total} requests");
            }
        }
        let (began, answered, failed) = measured_at.unwrap_or((Instant::now(), 0, 0));
        let seconds = began.elapsed().as_secs_f64();
        self.epoll.delete(&timer)?;
        if let Some(failure) = &self.first_failure {
            eprintln!("    first failure: {failure}");
        }
        self.latency_ns.sort_unstable();
        Ok(Outcome {
            answered: self.answered - answered,
            failed: self.failed - failed,
            seconds,
            latency_ns: std::mem::take(&mut self.latency_ns),
            seen: self.seen,
        })
    }

    /// Every client that is free sends its next request, as many as may be under way.
    fn saturate(&mut self, total: u64) -> Result<()> {
        while self.started < total
            && self.started - self.answered - self.failed < self.work.active_max as u64
            && let Some(id) = self.next_client()?
        {
            self.fire(id, Instant::now());
        }
        self.write_http2();
        Ok(())
    }

    fn next_client(&mut self) -> Result<Option<usize>> {
        if !self.work.fresh {
            // One that was closed while idle is in the list still, beside the one that replaced it.
            while let Some(id) = self.free.pop_front() {
                if matches!(self.parties[id], Party::Client(_) | Party::ClientHttp2(_)) {
                    return Ok(Some(id));
                }
            }
            return Ok(None);
        }
        let under_way = self.started - self.answered - self.failed;
        if under_way >= self.work.connections as u64 { Ok(None) } else { self.client().map(Some) }
    }

    fn client(&mut self) -> Result<usize> {
        let link = Link::connect(self.target, self.work.secured.as_ref())?;
        let id =
            self.parties.iter().position(|party| matches!(party, Party::Gone)).filter(|_| self.work.fresh);
        let id = id.unwrap_or_else(|| {
            self.parties.push(Party::Gone);
            self.parties.len() - 1
        });
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(&link, EpollEvent::new(flags, id as u64))?;
        self.parties[id] = match self.work.streams {
            None => {
                Party::Client(Box::new(Client { link, sent: 0, due: None, head: Vec::new(), left: None }))
            }
            Some(_) => Party::ClientHttp2(Box::new(http2::Client::new(link))),
        };
        Ok(id)
    }

    fn set_free(&mut self, id: usize) {
        for _ in 0..self.work.streams.unwrap_or(1) {
            self.free.push_back(id);
        }
    }

    fn watch(&mut self, party: Party, descriptor: impl AsFd, flags: EpollFlags) -> Result<()> {
        self.epoll.add(descriptor, EpollEvent::new(flags, self.parties.len() as u64))?;
        self.parties.push(party);
        Ok(())
    }

    fn fire(&mut self, id: usize, due: Instant) {
        if let Party::ClientHttp2(client) = &mut self.parties[id] {
            self.started += 1;
            if self.unwritten.last() != Some(&id) {
                self.unwritten.push(id);
            }
            if let Err(error) = client.fire(&self.messages, due) {
                self.fail(id, &error.to_string());
            }
            return;
        }
        let Party::Client(client) = &mut self.parties[id] else { return };
        self.started += 1;
        client.due = Some(due);
        client.sent = 0;
        client.left = None;
        client.head.clear();
        if let Err(error) = client.send(&self.request) {
            self.fail(id, &error.to_string());
        }
    }

    /// All that was fired on a connection since the last turn goes out at once.
    fn write_http2(&mut self) {
        while let Some(id) = self.unwritten.pop() {
            if let Party::ClientHttp2(client) = &mut self.parties[id]
                && let Err(error) = client.write(&self.messages)
            {
                self.fail(id, &error.to_string());
            }
        }
    }

    /// Waits for events and handles them.
    fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let wait = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO);
        let count = match self.epoll.wait(&mut events, wait) {
            Err(nix::errno::Errno::EINTR) => 0,
            result => result?,
        };
        for event in &events[..count] {
            if event.data() != TIMER {
                self.handle(event.data() as usize)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, id: usize) -> Result<()> {
        match &mut self.parties[id] {
            Party::Gone => {}
            Party::Listener(number) => {
                let listener = &self.origin.listeners[*number];
                while let Ok((stream, _)) = listener.accept() {
                    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                    self.epoll.add(&stream, EpollEvent::new(flags, self.parties.len() as u64))?;
                    self.parties.push(match self.work.streams {
                        None => Party::Served(Box::new(Served::new(stream)?)),
                        Some(_) => Party::ServedHttp2(Box::new(http2::Served::new(Link::accepted(stream)?))),
                    });
                }
            }
            Party::ServedHttp2(served) => {
                if !served.turn(&mut self.buffer, &self.messages, &mut self.seen) {
                    self.parties[id] = Party::Gone;
                }
            }
            Party::ClientHttp2(client) => {
                let mut answered = std::mem::take(&mut self.answered_http2);
                let received = client.receive(&mut self.buffer, &mut answered);
                let turned = received.and_then(|()| client.write(&self.messages));
                let count = answered.len();
                self.answered += count as u64;
                self.latency_ns.extend(answered.drain(..).map(|due| due.elapsed().as_nanos() as u64));
                self.answered_http2 = answered;
                self.free.extend(std::iter::repeat_n(id, count));
                if let Err(error) = turned {
                    self.fail(id, &error.to_string());
                }
            }
            Party::Served(served) => {
                if !served.turn(&mut self.buffer, self.work.request_body, &self.answer, &mut self.seen) {
                    self.parties[id] = Party::Gone;
                }
            }
            Party::Client(client) => {
                if client.due.is_none() {
                    // Ended by the proxy while it was idle, or a session ticket.
                    if let Ok(0) = client.link.read(&mut self.buffer) {
                        self.fail(id, "closed while idle");
                    }
                    return Ok(());
                }
                let turned = client.send(&self.request).and_then(|()| client.receive(&mut self.buffer));
                match turned {
                    Ok(false) => {}
                    Ok(true) => self.answered(id),
                    Err(error) => self.fail(id, &error.to_string()),
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, id: usize) {
        let Party::Client(client) = &mut self.parties[id] else { return };
        self.answered += 1;
        if let Some(due) = client.due.take() {
            self.latency_ns.push(due.elapsed().as_nanos() as u64);
        }
        if self.work.fresh {
            self.parties[id] = Party::Gone;
        } else {
            self.free.push_back(id);
        }
    }

    /// The connection is given up, and what was under way on it.
    fn fail(&mut self, id: usize, why: &str) {
        self.failed += match &self.parties[id] {
            Party::ClientHttp2(client) => client.under_way().max(1) as u64,
            _ => 1,
        };
        self.first_failure.get_or_insert_with(|| why.to_owned());
        self.parties[id] = Party::Gone;
        if !self.work.fresh
            && let Ok(id) = self.client()
        {
            self.set_free(id);
        }
    }
}

impl Client {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        while self.sent < request.len() {
            match self.link.write(&request[self.sent..])? {
                0 => return Ok(()),
                count => self.sent += count,
            }
        }
        self.link.flush()
    }

    /// True: the answer is whole.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            let count = match self.link.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                result => result?,
            };
            if count == 0 {
                return Err(io::Error::other("closed within an answer"));
            }
            let left = match self.left {
                Some(left) => left.checked_sub(count),
                None => {
                    self.head.extend_from_slice(&buffer[..count]);
                    let Some(end) = memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 4) else { continue };
                    (end + content_length(&self.head[..end])?).checked_sub(self.head.len())
                }
            };
            let left = left.ok_or_else(|| io::Error::other("bytes after an answer"))?;
            self.left = Some(left);
            if left == 0 {
                return Ok(true);
            }
        }
    }
}

/// A request as a program sends it, with some 400 bytes of fields.
fn request(body_bytes: usize) -> Vec<u8> {
    let (method, length) = match body_bytes {
        0 => ("GET", String::new()),
        bytes => ("POST", format!("Content-Length: {bytes}\r\n")),
    };
    let mut bytes = format!(
        "{method} /api/v7/users/12345?fields=name,email HTTP/1.1\r\nHost: svc7.example.com\r\n\
         User-Agent: load/1.0 (compatible; bench)\r\nAccept: application/json, text/plain, */*\r\n\
         Accept-Encoding: gzip, deflate, br\r\nAuthorization: Bearer {:a<80}\r\nX-Tenant: acme-production\r\n\
         Cookie: session=4d7f0a1c9b; theme=dark\r\n{length}\r\n",
        ""
    )
    .into_bytes();
    bytes.resize(bytes.len() + body_bytes, b'y');
    bytes
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    if !head.starts_with(b"HTTP/1.1 200 ") {
        let line = String::from_utf8_lossy(head.split(|&byte| byte == b'\r').next().unwrap_or_default());
        return Err(io::Error::other(format!("answered {line}")));
    }
    let head = head.to_ascii_lowercase();
    memmem::find(&head, b"\r\ncontent-length:")
        .and_then(|at| {
            let value = &head[at + 17..];
            let end = value.iter().position(|&byte| byte == b'\r')?;
            std::str::from_utf8(&value[..end]).ok()?.trim().parse().ok()
        })
        .ok_or_else(|| io::Error::other("an answer without length"))
}

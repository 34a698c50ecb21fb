//! From bytes to heads: httparse finds the tokens, everything that decides where a message ends is checked here.

use std::mem::MaybeUninit;

use super::{HEAD_FIELDS_CEILING, Limits};
use crate::head::values::{Once, authorities_agree, content_length, is_authority};
use crate::head::{
    Exchange, Field, FieldKind, Framing, Method, Reject, RequestHead, ResponseHead, ResponseKind, Span,
    Target, Version, of_kind,
};
use crate::text::{is_token, list, trim};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Call again with the same bytes and more behind them.
    Incomplete,
    /// The head fills the first `head_bytes`; body bytes, if any, follow.
    Complete { head_bytes: usize },
}

/// How far an incomplete head was looked at: makes a head that arrives byte by byte cost as much as one that arrives
/// at once. Belongs to the connection; it starts anew by itself when a head is complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    seen: usize,
    parsed: usize,
}

impl HeadScan {
    /// Whether to parse: the first time, when an end of head or a malformed line end has come, and each time the
    /// bytes have doubled (so that garbage is refused early).
    pub(super) fn is_due(&mut self, bytes: &[u8]) -> bool {
        let from = self.seen.min(bytes.len());
        self.seen = bytes.len();
        if self.parsed == 0 {
            self.parsed = bytes.len();
            return true;
        }
        let ended = memchr::memchr_iter(b'\n', &bytes[from..]).any(|at| {
            let at = from + at;
            at < 2 || bytes[at - 1] != b'\r' || bytes[at - 2] == b'\n'
        });
        let due = ended || bytes.len() >= self.parsed * 2;
        if due {
            self.parsed = bytes.len();
        }
        due
    }
}

/// Longer than any registered method.
const METHOD_BYTES_MAX: usize = 32;
/// Names in `Connection`; each is compared with every field.
const CONNECTION_OPTIONS_MAX: usize = 32;

type Tokens<'a> = [MaybeUninit<httparse::Header<'a>>; HEAD_FIELDS_CEILING];

/// Parses a request head at the start of `bytes`, which are everything received and not yet consumed. One empty line
/// before it is skipped (RFC 9112, 2.2) and counted into `head_bytes`. What `head` held before is gone, also on
/// [`Parsed::Incomplete`] and on errors.
pub fn parse_request(
    bytes: &[u8],
    scan: &mut HeadScan,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Parsed, Reject> {
    head.fields.clear();
    let text = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    match text {
        [] | [b'\r'] if bytes.len() < 3 => return Ok(Parsed::Incomplete),
        [b'\r' | b'\n', ..] => return Err(Reject::bad("empty line before the request")),
        _ => {}
    }
    check_request_line(text, limits)?;
    if !scan.is_due(bytes) {
        return incomplete(bytes, limits);
    }
    let mut tokens: Tokens = [const { MaybeUninit::uninit() }; HEAD_FIELDS_CEILING];
    let mut request = httparse::Request::new(&mut []);
    let fields_max = limits.head_fields_max.min(HEAD_FIELDS_CEILING);
    let text_bytes = match request.parse_with_uninit_headers(text, &mut tokens[..fields_max]) {
        Ok(httparse::Status::Complete(count)) => count,
        Ok(httparse::Status::Partial) => return incomplete(bytes, limits),
        Err(error) => return Err(request_error(error, text)),
    };
    let head_bytes = bytes.len() - text.len() + text_bytes;
    if head_bytes > limits.head_bytes_max {
        return Err(HEAD_TOO_LARGE);
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Reject::bad("malformed request line"));
    };
    head.method = Method::of(method.as_bytes());
    head.method_name = span(bytes, method.as_bytes());
    head.version = if request.version == Some(1) { Version::Http11 } else { Version::Http10 };
    collect(&bytes[..head_bytes], bytes.len() - text.len(), request.headers, &mut head.fields)?;
    head.fields_end = head_bytes as u32 - 2;
    interpret_target(bytes, span(bytes, target.as_bytes()), head)?;
    interpret_request(bytes, head, limits)?;
    *scan = HeadScan::default();
    Ok(Parsed::Complete { head_bytes })
}

/// Parses a response head at the start of `bytes`. Framing and kind depend on the request, so `exchange` says what it
/// was; interim responses are counted there. An error means: 502 to the client, connection closed.
pub fn parse_response(
    bytes: &[u8],
    scan: &mut HeadScan,
    limits: &Limits,
    exchange: &mut Exchange,
    head: &mut ResponseHead,
) -> Result<Parsed, Reject> {
    head.fields.clear();
    if bytes.is_empty() {
        return Ok(Parsed::Incomplete);
    }
    if matches!(bytes[0], b'\r' | b'\n') {
        return Err(Reject::bad("empty line before the response"));
    }
    if !scan.is_due(bytes) {
        return incomplete(bytes, limits);
    }
    let mut tokens: Tokens = [const { MaybeUninit::uninit() }; HEAD_FIELDS_CEILING];
    let mut response = httparse::Response::new(&mut []);
    let fields_max = limits.head_fields_max.min(HEAD_FIELDS_CEILING);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut tokens[..fields_max]);
    let head_bytes = match parsed {
        Ok(httparse::Status::Complete(count)) => count,
        Ok(httparse::Status::Partial) => return incomplete(bytes, limits),
        Err(error) => return Err(token_error(error, "malformed status line")),
    };
    if head_bytes > limits.head_bytes_max {
        return Err(HEAD_TOO_LARGE);
    }
    head.version = if response.version == Some(1) { Version::Http11 } else { Version::Http10 };
    head.status = response.code.unwrap_or(0);
    head.reason = match response.reason.unwrap_or("").as_bytes() {
        // An absent reason is not a part of `bytes`.
        [] => Span::default(),
        reason => span(bytes, reason),
    };
    collect(&bytes[..head_bytes], 0, response.headers, &mut head.fields)?;
    head.fields_end = head_bytes as u32 - 2;
    interpret_response(bytes, head, exchange, limits)?;
    *scan = HeadScan::default();
    Ok(Parsed::Complete { head_bytes })
}

const HEAD_TOO_LARGE: Reject = Reject::new(431, "head too large");

fn incomplete(bytes: &[u8], limits: &Limits) -> Result<Parsed, Reject> {
    if bytes.len() >= limits.head_bytes_max { Err(HEAD_TOO_LARGE) } else { Ok(Parsed::Incomplete) }
}

/// Limits of the request line, also of one that has not ended yet. Stops at the second space, so it costs little.
fn check_request_line(text: &[u8], limits: &Limits) -> Result<(), Reject> {
    let seen = &text[..text.len().min(METHOD_BYTES_MAX + 1)];
    let Some(method_end) = memchr::memchr(b' ', seen) else {
        let is_too_long = seen.len() > METHOD_BYTES_MAX && is_token(seen);
        return if is_too_long { Err(Reject::new(501, "method too long")) } else { Ok(()) };
    };
    let rest = &text[method_end + 1..];
    let window = &rest[..rest.len().min(limits.target_bytes_max + 1)];
    if window.len() > limits.target_bytes_max && memchr::memchr(b' ', window).is_none() {
        return Err(Reject::new(414, "target too long"));
    }
    Ok(())
}

fn request_error(error: httparse::Error, text: &[u8]) -> Reject {
    let version = text.splitn(3, |&byte| byte == b' ').nth(2);
    if error == httparse::Error::Version && version.is_some_and(|version| version.starts_with(b"HTTP/")) {
        return Reject::new(505, "unsupported version");
    }
    token_error(error, "malformed request line")
}

fn token_error(error: httparse::Error, start_line: &'static str) -> Reject {
    match error {
        httparse::Error::HeaderName => Reject::bad("malformed field name"),
        httparse::Error::HeaderValue => Reject::bad("malformed field value"),
        httparse::Error::TooManyHeaders => Reject::new(431, "too many fields"),
        _ => Reject::bad(start_line),
    }
}

/// Where `part`, a slice of `bytes`, lies in them.
fn span(bytes: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    Span::new(start, start + part.len())
}

/// Turns tokens into fields, and checks every line end: httparse takes a bare LF, which others do not (RFC 9112, 2.2
/// leaves it open), so it is refused. `skipped`: bytes before the start line.
fn collect(
    head: &[u8],
    skipped: usize,
    tokens: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<(), Reject> {
    const LINE_END: Reject = Reject::bad("line end without carriage return");
    let start_line = memchr::memchr(b'\n', &head[skipped..]).ok_or(LINE_END)? + skipped;
    if start_line == 0 || head[start_line - 1] != b'\r' || !head.ends_with(b"\r\n") {
        return Err(LINE_END);
    }
    let last = head.len() - 2;
    let mut line_start = start_line + 1;
    for (i, token) in tokens.iter().enumerate() {
        let name = span(head, token.name.as_bytes());
        let value = span(head, token.value);
        let next = tokens.get(i + 1).map_or(last, |next| span(head, next.name.as_bytes()).start as usize);
        if name.start as usize != line_start || next < value.end as usize {
            return Err(Reject::bad("malformed field"));
        }
        let gap = &head[value.end as usize..next];
        if gap != b"\r\n" && trim(gap) != b"\r\n" {
            return Err(LINE_END);
        }
        fields.push(Field {
            name,
            value,
            kind: FieldKind::of(token.name.as_bytes()),
            listed: false,
            never_indexed: false,
        });
        line_start = next;
    }
    if line_start == last { Ok(()) } else { Err(LINE_END) }
}

fn interpret_target(bytes: &[u8], target: Span, head: &mut RequestHead) -> Result<(), Reject> {
    let text = target.of(bytes);
    if !text.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Reject::bad("malformed target"));
    }
    head.authority = Span::default();
    head.path = target;
    if head.method == Method::Connect {
        head.target = Target::Authority;
        head.authority = target;
        head.path = Span::default();
        let port = text.iter().rposition(|&byte| byte == b':').map(|colon| &text[colon + 1..]);
        let has_port = port.is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
        return if is_authority(text) && has_port { Ok(()) } else { Err(Reject::bad("malformed target")) };
    }
    match text {
        [b'/', ..] => head.target = Target::Origin,
        b"*" if head.method == Method::Options => head.target = Target::Asterisk,
        _ => {
            let scheme = match text {
                _ if starts_with_ignoring_case(text, b"http://") => 7,
                _ if starts_with_ignoring_case(text, b"https://") => 8,
                _ => return Err(Reject::bad("malformed target")),
            };
            let rest = &text[scheme..];
            let authority = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            if authority == 0 || !is_authority(&rest[..authority]) {
                return Err(Reject::bad("malformed target"));
            }
            let start = target.start as usize + scheme;
            head.target = Target::Absolute;
            head.authority = Span::new(start, start + authority);
            head.path = Span::new(start + authority, target.end as usize);
        }
    }
    Ok(())
}

fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn interpret_request(bytes: &[u8], head: &mut RequestHead, limits: &Limits) -> Result<(), Reject> {
    let mut seen = Seen::default();
    let mut host = None;
    let (mut expects, mut expects_other) = (false, false);
    let mut wants_trailers = false;
    let (mut request_id, mut traceparent) = (Once::default(), Once::default());
    for field in &head.fields {
        match field.kind {
            FieldKind::EndToEnd | FieldKind::HopByHop | FieldKind::Trailer | FieldKind::Upgrade => {}
            FieldKind::Host if host.is_some() => return Err(Reject::bad("more than one host")),
            FieldKind::Host => host = Some(field.value),
            FieldKind::Expect if is(b"100-continue")(field.value.of(bytes)) => expects = true,
            FieldKind::Expect => expects_other = true,
            FieldKind::Lookalike => return Err(Reject::bad("field that looks like framing")),
            FieldKind::Te => wants_trailers |= list(field.value.of(bytes)).any(is(b"trailers")),
            FieldKind::RequestId => request_id.note(field.value),
            FieldKind::TraceParent => traceparent.note(field.value),
            _ => seen.note(field, bytes)?,
        }
    }
    (head.request_id, head.traceparent) = (request_id.value(), traceparent.value());
    interpret_host(bytes, head, host)?;
    let options = connection_options(bytes, &mut head.fields)?;
    head.trailers = wants_trailers;
    head.framing = seen.framing(head.version)?.unwrap_or(Framing::None);
    if let Framing::Length(length) = head.framing
        && length > limits.body_bytes_max
    {
        return Err(Reject::new(413, "body too large"));
    }
    head.keep_alive = options.keep_alive(head.version);
    if expects_other && head.version == Version::Http11 {
        return Err(Reject::new(417, "unknown expectation"));
    }
    head.expect_continue = expects && head.version == Version::Http11;
    head.upgrade = of_kind(&head.fields, FieldKind::Upgrade)
        .filter(|_| options.upgrade && head.version == Version::Http11 && !head.framing.has_body())
        .map(|field| field.value)
        .filter(|value| !value.is_empty() && !list(value.of(bytes)).any(is(b"h2c")));
    if head.method == Method::Connect && head.framing.has_body() {
        return Err(Reject::bad("connect with a body"));
    }
    Ok(())
}

fn interpret_host(bytes: &[u8], head: &mut RequestHead, host: Option<Span>) -> Result<(), Reject> {
    let Some(host) = host else {
        return match head.version {
            Version::Http11 | Version::Http2 => Err(Reject::bad("no host")),
            Version::Http10 => Ok(()),
        };
    };
    if !is_authority(host.of(bytes)) {
        return Err(Reject::bad("malformed host"));
    }
    if head.authority.is_empty() {
        head.authority = host;
        return Ok(());
    }
    // RFC 9112, 3.2.2 lets the target win. A peer that reads Host would see another request, so they must agree.
    let default_port: &[u8] = match head.target {
        Target::Absolute
            if starts_with_ignoring_case(&bytes[head.authority.start as usize - 4..], b"s://") =>
        {
            b":443"
        }
        Target::Absolute => b":80",
        _ => b"",
    };
    if authorities_agree(head.authority.of(bytes), host.of(bytes), default_port) {
        Ok(())
    } else {
        Err(Reject::bad("host differs from the target"))
    }
}

fn interpret_response(
    bytes: &[u8],
    head: &mut ResponseHead,
    exchange: &mut Exchange,
    limits: &Limits,
) -> Result<(), Reject> {
    if head.status < 100 {
        return Err(Reject::bad("malformed status"));
    }
    let mut seen = Seen::default();
    for field in &head.fields {
        seen.note(field, bytes)?;
    }
    let options = connection_options(bytes, &mut head.fields)?;
    let declared = seen.framing(head.version)?;
    head.content_length = seen.length;
    head.keep_alive = options.keep_alive(head.version);
    head.upgrade = None;
    head.kind = match head.status {
        101 if exchange.upgrade && head.version == Version::Http11 => {
            head.upgrade = of_kind(&head.fields, FieldKind::Upgrade).map(|field| field.value);
            if head.upgrade.is_none() || !options.upgrade {
                return Err(Reject::bad("switch of protocols without a name"));
            }
            ResponseKind::Tunnel
        }
        101 => return Err(Reject::bad("switch of protocols that was not asked for")),
        100..200 => {
            exchange.interim = exchange.interim.saturating_add(1);
            if exchange.interim > limits.interim_responses_max {
                return Err(Reject::bad("too many interim responses"));
            }
            exchange.expect_continue &= head.status != 100;
            ResponseKind::Interim
        }
        200..300 if exchange.method == Method::Connect => ResponseKind::Tunnel,
        _ => ResponseKind::Final,
    };
    let no_body = head.kind != ResponseKind::Final
        || exchange.method == Method::Head
        || matches!(head.status, 204 | 304);
    head.framing = match declared {
        _ if no_body => Framing::None,
        Some(framing) => framing,
        None => Framing::UntilClose,
    };
    if let Framing::Length(length) = head.framing
        && length > limits.body_bytes_max
    {
        return Err(Reject::bad("body too large"));
    }
    head.keep_alive &= head.kind != ResponseKind::Tunnel && head.framing != Framing::UntilClose;
    Ok(())
}

/// The fields that frame a message.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
}

impl Seen {
    fn note(&mut self, field: &Field, bytes: &[u8]) -> Result<(), Reject> {
        match field.kind {
            FieldKind::ContentLength => {
                if self.length.is_some() {
                    return Err(Reject::bad("more than one content-length"));
                }
                self.length = Some(content_length(field.value.of(bytes))?);
            }
            FieldKind::TransferEncoding => {
                if self.chunked {
                    return Err(Reject::bad("more than one transfer-encoding"));
                }
                let value = field.value.of(bytes);
                if !value.eq_ignore_ascii_case(b"chunked") {
                    // What does not end in chunks has an end that nobody finds (RFC 9112, 6.3).
                    let status = if list(value).last().is_some_and(is(b"chunked")) { 501 } else { 400 };
                    return Err(Reject::new(status, "unknown transfer-encoding"));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Option<Framing>, Reject> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Reject::bad("content-length with transfer-encoding")),
            (true, None) if version == Version::Http10 => Err(Reject::bad("transfer-encoding in http/1.0")),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }
}

#[derive(Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl ConnectionOptions {
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Reads `Connection` and marks the fields it lists.
fn connection_options(bytes: &[u8], fields: &mut [Field]) -> Result<ConnectionOptions, Reject> {
    let mut options = ConnectionOptions::default();
    let mut count = 0;
    for i in 0..fields.len() {
        if fields[i].kind != FieldKind::Connection {
            continue;
        }
        for option in list(fields[i].value.of(bytes)) {
            count += 1;
            if count > CONNECTION_OPTIONS_MAX {
                return Err(Reject::bad("too many connection options"));
            }
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => options.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                _ => {
                    for field in fields.iter_mut() {
                        field.listed |= field.name.of(bytes).eq_ignore_ascii_case(option);
                    }
                }
            }
        }
    }
    Ok(options)
}

fn is(name: &[u8]) -> impl Fn(&[u8]) -> bool {
    move |member| member.eq_ignore_ascii_case(name)
}

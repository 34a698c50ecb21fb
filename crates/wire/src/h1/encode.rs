//! Heads are written anew: what belongs to one connection only is left out, framing is the engine's own, the rest is
//! copied in runs of whole lines.

use crate::head::{
    Exchange, Field, FieldKind, Framing, Method, RequestEdits, RequestHead, ResponseEdits, ResponseHead,
    ResponseKind, Span, Target, Version,
};
use crate::text::{is_field_value, is_token, push_decimal};
use crate::websocket::PROTOCOL;

/// What was announced to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentResponse {
    /// For the [`super::BodyEncoder`].
    pub framing: Framing,
    /// The client was not told that the connection closes.
    pub keep_alive: bool,
}

/// Appends the request head to `out` as it goes upstream: HTTP/1.1, origin form (but for CONNECT and `OPTIONS *`),
/// `Host` first. An extended CONNECT of HTTP/2 becomes a GET with `Upgrade`, whose key the caller has to append. `bytes` are
/// those that `head` was parsed from. Returns the framing for the [`super::BodyEncoder`].
pub fn encode_request(
    head: &RequestHead,
    bytes: &[u8],
    edits: &RequestEdits<'_>,
    out: &mut Vec<u8>,
) -> Framing {
    let host = edits.host.unwrap_or(head.authority.of(bytes));
    out.extend_from_slice(if head.protocol.is_some() { b"GET" } else { head.method_name.of(bytes) });
    out.push(b' ');
    match (head.target, edits.path.unwrap_or(head.path.of(bytes))) {
        (Target::Authority, _) => out.extend_from_slice(head.authority.of(bytes)),
        (Target::Absolute, []) if head.method == Method::Options => out.push(b'*'),
        (_, path) => {
            if matches!(path, [] | [b'?', ..]) {
                out.push(b'/');
            }
            out.extend_from_slice(path);
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    push_framing(out, head.framing);
    let upgrade = head.upgrade.filter(|_| edits.upgrade).or(head.protocol);
    push_connection(out, edits.close, upgrade.is_some(), head.trailers);
    if let Some(upgrade) = upgrade {
        push_field(out, b"upgrade", upgrade.of(bytes));
    }
    copy_fields(&head.fields, head.fields_end, bytes, edits.remove, out, |kind| match kind {
        FieldKind::Expect => head.expect_continue,
        FieldKind::Trailer => head.framing == Framing::Chunked,
        FieldKind::WebSocketKey => head.protocol.is_none(),
        kind => kind.is_passed_on(),
    });
    append(out, edits.append);
    head.framing
}

/// Appends the response head to `out` as the client of `exchange` gets it. Interim responses to a client of HTTP/1.0
/// are left out: nothing is appended.
pub fn encode_response(
    head: &ResponseHead,
    bytes: &[u8],
    exchange: &Exchange,
    edits: &ResponseEdits<'_>,
    out: &mut Vec<u8>,
) -> SentResponse {
    let framing = match (exchange.version, head.framing) {
        // In HTTP/2 its end was the head's: here it has to be said.
        (_, Framing::None) if head.version == Version::Http2 && may_have_body(head, exchange) => {
            Framing::Length(0)
        }
        (Version::Http10, Framing::Chunked) => Framing::UntilClose,
        (Version::Http11, Framing::UntilClose) => Framing::Chunked,
        (_, framing) => framing,
    };
    let keep_alive = exchange.keep_alive && !edits.close && framing != Framing::UntilClose;
    if head.kind == ResponseKind::Interim && exchange.version == Version::Http10 {
        return SentResponse { framing, keep_alive };
    }
    match head.version {
        // The answer to an extended CONNECT (RFC 8441, 5); what stands for its accept the caller has to append.
        Version::Http2 if head.kind == ResponseKind::Tunnel && exchange.upgrade => {
            push_status_line(out, 101, reason_phrase(101).as_bytes());
        }
        Version::Http2 => push_status_line(out, head.status, reason_phrase(head.status).as_bytes()),
        _ => push_status_line(out, head.status, head.reason.of(bytes)),
    }
    match head.kind {
        ResponseKind::Interim => {}
        ResponseKind::Tunnel => {
            let is_upgrade = head.upgrade.is_some() || (exchange.upgrade && head.version == Version::Http2);
            push_connection(out, false, is_upgrade, false);
            if let Some(upgrade) = head.upgrade {
                push_field(out, b"upgrade", upgrade.of(bytes));
            } else if is_upgrade {
                push_field(out, b"upgrade", PROTOCOL);
            }
        }
        ResponseKind::Final => {
            match (framing, head.content_length) {
                // To HEAD, or 304: what a GET would have been answered with.
                (Framing::None, Some(length)) if head.status != 204 => {
                    push_framing(out, Framing::Length(length))
                }
                (framing, _) => push_framing(out, framing),
            }
            push_persistence(out, keep_alive, exchange.version);
        }
    }
    copy_fields(&head.fields, head.fields_end, bytes, edits.remove, out, |kind| match kind {
        // In a response these are ordinary names.
        FieldKind::Host | FieldKind::Expect | FieldKind::WebSocketKey => true,
        FieldKind::WebSocketAccept => head.version != Version::Http2,
        FieldKind::Trailer => framing == Framing::Chunked,
        kind => kind.is_passed_on(),
    });
    append(out, edits.append);
    SentResponse { framing, keep_alive: keep_alive && head.kind != ResponseKind::Tunnel }
}

fn may_have_body(head: &ResponseHead, exchange: &Exchange) -> bool {
    head.kind == ResponseKind::Final && exchange.method != Method::Head && !matches!(head.status, 204 | 304)
}

/// Appends a whole response of the proxy's own. `exchange`: that of the request, `None` if it could not even be
/// parsed; then the connection closes. Returns whether the connection may go on, as told to the client.
pub fn encode_local_response(
    status: u16,
    exchange: Option<&Exchange>,
    edits: &ResponseEdits<'_>,
    content_type: &str,
    body: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let keep_alive = !edits.close && exchange.is_some_and(|exchange| exchange.keep_alive);
    let version = exchange.map_or(Version::Http11, |exchange| exchange.version);
    push_status_line(out, status, reason_phrase(status).as_bytes());
    let has_length = !matches!(status, 100..200 | 204 | 304);
    if has_length {
        push_framing(out, Framing::Length(body.len() as u64));
        if !body.is_empty() {
            push_field(out, b"content-type", content_type.as_bytes());
        }
    }
    push_persistence(out, keep_alive, version);
    append(out, edits.append);
    if has_length && exchange.is_none_or(|exchange| exchange.method != Method::Head) {
        out.extend_from_slice(body);
    }
    keep_alive
}

/// Appends one field line. The caller vouches for name and value.
pub fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

fn push_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
}

/// `TE: trailers` is of one connection, so it is written with its `Connection`.
fn push_connection(out: &mut Vec<u8>, close: bool, upgrade: bool, trailers: bool) {
    if !(close || upgrade || trailers) {
        return;
    }
    out.extend_from_slice(b"connection: ");
    let mut separator: &[u8] = b"";
    for (is_set, option) in [(close, &b"close"[..]), (upgrade, b"upgrade"), (trailers, b"te")] {
        if is_set {
            out.extend_from_slice(separator);
            out.extend_from_slice(option);
            separator = b", ";
        }
    }
    out.extend_from_slice(b"\r\n");
    if trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }
}

fn push_persistence(out: &mut Vec<u8>, keep_alive: bool, version: Version) {
    match (keep_alive, version) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, Version::Http11 | Version::Http2) => {}
    }
}

/// Copies the lines of the fields that stay. Line ends and white space around values were checked when the head was
/// parsed, so lines that follow one another are copied as one.
fn copy_fields(
    fields: &[Field],
    fields_end: u32,
    bytes: &[u8],
    remove: &[&[u8]],
    out: &mut Vec<u8>,
    stays: impl Fn(FieldKind) -> bool,
) {
    let mut run = Span::default();
    for (i, field) in fields.iter().enumerate() {
        let end = fields.get(i + 1).map_or(fields_end, |next| next.name.start);
        let removed = || remove.iter().any(|name| field.name.of(bytes).eq_ignore_ascii_case(name));
        if field.listed || !stays(field.kind) || (!remove.is_empty() && removed()) {
            continue;
        }
        if run.end != field.name.start {
            out.extend_from_slice(run.of(bytes));
            run.start = field.name.start;
        }
        run.end = end;
    }
    out.extend_from_slice(run.of(bytes));
}

/// Adds the proxy's own fields and ends the head.
fn append(out: &mut Vec<u8>, fields: &[(&[u8], &[u8])]) {
    for (name, value) in fields {
        if is_token(name) && is_field_value(value) {
            push_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// For the answers that a proxy makes itself; `Response` for others.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Response",
    }
}

#[cfg(test)]
mod tests;

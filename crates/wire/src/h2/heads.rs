//! From decoded lists to heads: the rules of RFC 9113, 8 for messages.

use super::Limits;
use super::streams::Stream;
use crate::head::values::{Once, authorities_agree, content_length, is_authority};
use crate::head::{
    FieldKind, Framing, Method, Reject, RequestHead, ResponseHead, ResponseKind, Span, Target, Version,
    is_forbidden_in_trailers,
};
use crate::hpack::FieldList;
use crate::text::is_token;

/// Where heads and trailers are put. Reuse one per worker: it allocates only until it is large enough.
#[derive(Debug, Default)]
pub struct Heads {
    pub(super) list: FieldList,
    /// Of the last [`super::Event::Request`].
    pub request: RequestHead,
    /// Of the last [`super::Event::Response`].
    pub response: ResponseHead,
}

impl Heads {
    /// What the spans of the last head, and those of the last trailers, are ranges of.
    pub fn bytes(&self) -> &[u8] {
        &self.list.bytes
    }

    /// Whether the request that [`super::Event::Rejected`] has just named by its head is a gRPC call, as far as it was kept.
    pub fn is_grpc(&self) -> bool {
        let is_taken = !self.list.is_too_large;
        let fields = if is_taken { &self.request.fields } else { &self.list.fields };
        self.list.is_grpc
            || fields.iter().any(|field| {
                let value = field.value.of(&self.list.bytes);
                field.name.of(&self.list.bytes) == b"content-type" && value.starts_with(b"application/grpc")
            })
    }

    /// The last response with what its spans are ranges of.
    pub fn response_parts(&mut self) -> (&mut ResponseHead, &[u8]) {
        (&mut self.response, &self.list.bytes)
    }

    /// Of the last [`super::Event::Trailers`], without those that must not come behind a body.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let pair = |span: Span| span.of(&self.list.bytes);
        let fields = self.list.fields.iter().filter(|field| field.kind != FieldKind::Crumb);
        fields
            .map(move |field| (pair(field.name), pair(field.value)))
            .filter(|(name, _)| !is_forbidden_in_trailers(name))
    }
}

/// Why a request is not announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// RFC 9113, 8.1.1: the stream is reset.
    Malformed(&'static str),
    /// The client gets an answer.
    Answer(Reject),
}

const REPEATED_LENGTH: &str = "more than one content-length";
const LENGTH: &str = "malformed content-length";
const CONNECTION_FIELD: &str = "connection-specific field";

/// What a server makes of a list. `end`: nothing follows the head.
pub(super) fn request(
    list: &mut FieldList,
    head: &mut RequestHead,
    end: bool,
    limits: &Limits,
) -> Result<(), Refusal> {
    if list.is_too_large {
        return Err(Refusal::Answer(Reject::new(431, "head too large")));
    }
    if let Some(fault) = list.fault {
        return Err(Refusal::Malformed(fault));
    }
    std::mem::swap(&mut list.fields, &mut head.fields);
    head.fields_end = list.bytes.len() as u32;
    head.version = Version::Http2;
    (head.keep_alive, head.upgrade) = (true, None);
    target(list, head, limits)?;
    let bytes = &list.bytes[..];
    let (mut host, mut length) = (None, None);
    let (mut expects, mut expects_other) = (false, false);
    let (mut request_id, mut traceparent) = (Once::default(), Once::default());
    head.trailers = false;
    for field in &head.fields {
        let value = field.value.of(bytes);
        match field.kind {
            FieldKind::EndToEnd
            | FieldKind::Crumb
            | FieldKind::Trailer
            | FieldKind::WebSocketKey
            | FieldKind::WebSocketAccept => {}
            FieldKind::RequestId => request_id.note(field.value),
            FieldKind::TraceParent => traceparent.note(field.value),
            FieldKind::Host if host.is_some() => return Err(Refusal::Malformed("more than one host")),
            FieldKind::Host => host = Some(field.value),
            FieldKind::Expect if value.eq_ignore_ascii_case(b"100-continue") => expects = true,
            FieldKind::Expect => expects_other = true,
            FieldKind::Lookalike => return Err(Refusal::Malformed("field that looks like framing")),
            FieldKind::Te if value.eq_ignore_ascii_case(b"trailers") => head.trailers = true,
            FieldKind::ContentLength if length.is_some() => return Err(Refusal::Malformed(REPEATED_LENGTH)),
            FieldKind::ContentLength => {
                length = Some(content_length(value).map_err(|_| Refusal::Malformed(LENGTH))?);
            }
            FieldKind::Te
            | FieldKind::Connection
            | FieldKind::TransferEncoding
            | FieldKind::Upgrade
            | FieldKind::HopByHop => return Err(Refusal::Malformed(CONNECTION_FIELD)),
        }
    }
    (head.request_id, head.traceparent) = (request_id.value(), traceparent.value());
    authority(list, head, host)?;
    framing(head, length, end, limits)?;
    if expects_other {
        return Err(Refusal::Answer(Reject::new(417, "unknown expectation")));
    }
    head.expect_continue = expects;
    Ok(())
}

/// RFC 9113, 8.3.1 and 8.5; RFC 8441, 4: which pseudo-fields there are, and what stands in them.
fn target(list: &FieldList, head: &mut RequestHead, limits: &Limits) -> Result<(), Refusal> {
    const METHOD_BYTES_MAX: usize = 32;
    const MISSING: Refusal = Refusal::Malformed("missing pseudo-field");
    const SUPERFLUOUS: Refusal = Refusal::Malformed("pseudo-field that does not belong here");
    let bytes = &list.bytes[..];
    let pseudo = &list.pseudo;
    if pseudo.status.is_some() {
        return Err(SUPERFLUOUS);
    }
    head.method_name = pseudo.method.ok_or(MISSING)?;
    let method = head.method_name.of(bytes);
    if !is_token(method) {
        return Err(Refusal::Malformed("malformed method"));
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(Refusal::Answer(Reject::new(501, "method too long")));
    }
    head.method = Method::of(method);
    head.protocol = pseudo.protocol;
    let is_connect = head.method == Method::Connect;
    if is_connect && pseudo.protocol.is_none() {
        if pseudo.scheme.is_some() || pseudo.path.is_some() {
            return Err(SUPERFLUOUS);
        }
        head.target = Target::Authority;
        head.path = Span::default();
        head.authority = pseudo.authority.ok_or(MISSING)?;
        let authority = head.authority.of(bytes);
        let port = authority.iter().rposition(|&byte| byte == b':').map(|colon| &authority[colon + 1..]);
        let has_port = port.is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
        return if has_port { Ok(()) } else { Err(Refusal::Malformed("malformed authority")) };
    }
    if let Some(protocol) = pseudo.protocol {
        if !is_connect || !limits.extended_connect {
            return Err(SUPERFLUOUS);
        }
        if !is_token(protocol.of(bytes)) {
            return Err(Refusal::Malformed("malformed protocol"));
        }
    }
    if !is_scheme(pseudo.scheme.ok_or(MISSING)?.of(bytes)) {
        return Err(Refusal::Malformed("malformed scheme"));
    }
    head.path = pseudo.path.ok_or(MISSING)?;
    head.authority = pseudo.authority.unwrap_or_default();
    let path = head.path.of(bytes);
    if path.len() > limits.target_bytes_max {
        return Err(Refusal::Answer(Reject::new(414, "target too long")));
    }
    head.target = match path {
        [b'/', ..] => Target::Origin,
        b"*" if head.method == Method::Options => Target::Asterisk,
        _ => return Err(Refusal::Malformed("path without a slash")),
    };
    if !path.iter().fold(true, |fits, &byte| fits & (byte.is_ascii_graphic() && byte != b'#')) {
        return Err(Refusal::Malformed("malformed path"));
    }
    Ok(())
}

/// RFC 3986, 3.1.
fn is_scheme(scheme: &[u8]) -> bool {
    matches!(scheme, b"http" | b"https")
        || (scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))
}

/// One of `:authority` and `host` has to be there; both have to mean the same.
fn authority(list: &FieldList, head: &mut RequestHead, host: Option<Span>) -> Result<(), Refusal> {
    let bytes = &list.bytes[..];
    let has_authority = list.pseudo.authority.is_some();
    if !has_authority {
        head.authority = host.ok_or(Refusal::Malformed("no authority"))?;
    }
    let text = head.authority.of(bytes);
    if text.is_empty() || !is_authority(text) {
        return Err(Refusal::Malformed("malformed authority"));
    }
    let Some(host) = host.filter(|_| has_authority) else { return Ok(()) };
    let default_port: &[u8] = match list.pseudo.scheme.map(|scheme| scheme.of(bytes)) {
        Some(b"https") => b":443",
        Some(b"http") => b":80",
        _ => b"",
    };
    if authorities_agree(text, host.of(bytes), default_port) {
        Ok(())
    } else {
        Err(Refusal::Answer(Reject::bad("host differs from the authority")))
    }
}

fn framing(head: &mut RequestHead, length: Option<u64>, end: bool, limits: &Limits) -> Result<(), Refusal> {
    let is_tunnel = head.method == Method::Connect;
    head.framing = match length {
        Some(_) if is_tunnel => return Err(Refusal::Malformed("connect with a body")),
        Some(1..) if end => return Err(Refusal::Malformed("body differs from its declared length")),
        Some(length) if length > limits.body_bytes_max => {
            return Err(Refusal::Answer(Reject::new(413, "body too large")));
        }
        Some(length) => Framing::Length(length),
        None if end || is_tunnel => Framing::None,
        None => Framing::Chunked,
    };
    Ok(())
}

/// What a client makes of a list; `stream` is that of the request.
pub(super) fn response(
    list: &mut FieldList,
    head: &mut ResponseHead,
    end: bool,
    stream: &mut Stream,
    limits: &Limits,
) -> Result<(), &'static str> {
    if list.is_too_large {
        return Err("head too large");
    }
    if let Some(fault) = list.fault {
        return Err(fault);
    }
    std::mem::swap(&mut list.fields, &mut head.fields);
    head.fields_end = list.bytes.len() as u32;
    let bytes = &list.bytes[..];
    let pseudo = &list.pseudo;
    let others = [pseudo.method, pseudo.scheme, pseudo.authority, pseudo.path, pseudo.protocol];
    if others.iter().any(Option::is_some) {
        return Err("pseudo-field that does not belong here");
    }
    head.version = Version::Http2;
    head.status = status(pseudo.status.ok_or("missing pseudo-field")?.of(bytes))?;
    (head.reason, head.keep_alive, head.upgrade) = (Span::default(), true, None);
    head.content_length = None;
    for field in &head.fields {
        match field.kind {
            FieldKind::ContentLength if head.content_length.is_some() => return Err(REPEATED_LENGTH),
            FieldKind::ContentLength => {
                head.content_length = Some(content_length(field.value.of(bytes)).map_err(|_| LENGTH)?);
            }
            FieldKind::Connection
            | FieldKind::TransferEncoding
            | FieldKind::Upgrade
            | FieldKind::HopByHop => return Err(CONNECTION_FIELD),
            _ => {}
        }
    }
    head.kind = match head.status {
        100..200 if end => return Err("interim response that ends its stream"),
        100..200 => {
            stream.interim = stream.interim.saturating_add(1);
            if stream.interim > limits.interim_responses_max {
                return Err("too many interim responses");
            }
            ResponseKind::Interim
        }
        200..300 if stream.is_connect => ResponseKind::Tunnel,
        _ => ResponseKind::Final,
    };
    let is_bodiless = head.kind != ResponseKind::Final || stream.is_head || matches!(head.status, 204 | 304);
    head.framing = match head.content_length {
        _ if is_bodiless => Framing::None,
        Some(1..) if end => return Err("body differs from its declared length"),
        Some(length) if length > limits.body_bytes_max => return Err("body too large"),
        Some(length) => Framing::Length(length),
        None if end => Framing::None,
        None => Framing::Chunked,
    };
    Ok(())
}

/// Three digits; 101 has no meaning in HTTP/2 (RFC 9113, 8.6).
fn status(text: &[u8]) -> Result<u16, &'static str> {
    match text {
        b"101" => Err("switch of protocols"),
        &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => Err("malformed status"),
    }
}

/// RFC 9113, 8.1: what may stand behind a body.
pub(super) fn trailers(list: &FieldList) -> Result<(), &'static str> {
    if list.is_too_large {
        return Err("trailers too large");
    }
    if let Some(fault) = list.fault {
        return Err(fault);
    }
    if list.pseudo != Default::default() {
        return Err("pseudo-field in trailers");
    }
    let is_of_connection = list.fields.iter().any(|field| {
        let kinds =
            [FieldKind::Connection, FieldKind::TransferEncoding, FieldKind::Upgrade, FieldKind::HopByHop];
        kinds.contains(&field.kind)
    });
    if is_of_connection { Err(CONNECTION_FIELD) } else { Ok(()) }
}

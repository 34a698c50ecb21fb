//! Header fields as byte ranges, and which of them the engine itself understands.

/// A range of the bytes that a head was parsed from, counted from the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes meant. `bytes` are those the head was parsed from; empty when they are fewer.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    /// Without the white space around it.
    pub value: Span,
    pub kind: FieldKind,
    /// Named by `Connection`, so of this connection only.
    pub listed: bool,
    /// Came as a literal that no table may hold (RFC 7541, 6.2.3), and is passed on as one.
    pub never_indexed: bool,
}

/// What the engine does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Passed on.
    EndToEnd,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Te,
    Trailer,
    /// `Keep-Alive`, `Proxy-Connection`, `HTTP2-Settings`: never passed on.
    HopByHop,
    /// `Transfer_Encoding`, `Content_Length`: frames the message to those who read `_` as `-`. Refused in requests, left out of
    /// responses.
    Lookalike,
    /// Passed on; known so that a proxy finds it without a search by name.
    RequestId,
    TraceParent,
    /// Of the handshake in HTTP/1.1 alone (see [`crate::websocket`]).
    WebSocketKey,
    WebSocketAccept,
    /// One of several `cookie` fields of HTTP/2; a field that joins them stands at the end (RFC 9113, 8.2.3). Never
    /// passed on.
    Crumb,
}

impl FieldKind {
    /// Whether a field of a request or a response goes on without the engine having a say, in either version.
    pub(crate) const fn is_passed_on(self) -> bool {
        matches!(self, Self::EndToEnd | Self::RequestId | Self::TraceParent)
    }

    /// By length first, so that most names cost one compare.
    pub(crate) fn of(name: &[u8]) -> Self {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is(b"te") => Self::Te,
            4 if is(b"host") => Self::Host,
            6 if is(b"expect") => Self::Expect,
            7 if is(b"upgrade") => Self::Upgrade,
            7 if is(b"trailer") => Self::Trailer,
            10 if is(b"connection") => Self::Connection,
            10 if is(b"keep-alive") => Self::HopByHop,
            11 if is(b"traceparent") => Self::TraceParent,
            12 if is(b"x-request-id") => Self::RequestId,
            14 if is(b"content-length") => Self::ContentLength,
            14 if is(b"content_length") => Self::Lookalike,
            14 if is(b"http2-settings") => Self::HopByHop,
            16 if is(b"proxy-connection") => Self::HopByHop,
            17 if is(b"transfer-encoding") => Self::TransferEncoding,
            17 if is(b"transfer_encoding") => Self::Lookalike,
            17 if is(crate::websocket::KEY_FIELD) => Self::WebSocketKey,
            20 if is(crate::websocket::ACCEPT_FIELD) => Self::WebSocketAccept,
            _ => Self::EndToEnd,
        }
    }
}

/// Fields that must not come after a body: they frame, route, authenticate, or say how to read the content
/// (RFC 9110, 6.5.1). They are left out of forwarded trailers.
pub(crate) fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    const FORBIDDEN: &[&[u8]] = &[
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"max-forwards",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"range",
        b"set-cookie",
        b"www-authenticate",
    ];
    !matches!(FieldKind::of(name), FieldKind::EndToEnd)
        || FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

//! What a head says: its parts as byte ranges, and what follows for framing and for the connection. Both engines fill
//! these types; whoever routes and edits need not know which of them did. The bytes behind the spans are lines,
//! `name: value` CR LF: as HTTP/1.1 received them, or as the HTTP/2 engine wrote them from a field block.

mod edits;
mod fields;
mod reject;
pub(crate) mod values;

pub use edits::{RequestEdits, ResponseEdits};
pub(crate) use fields::is_forbidden_in_trailers;
pub use fields::{Field, FieldKind, Span};
pub use reject::Reject;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
    Http2,
}

/// Those that matter to framing and to retries by name; the bytes of every method are in [`RequestHead::method_name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110, 9.1).
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Sending it twice does what sending it once does (RFC 9110, 9.2.2).
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }

    /// For metric labels: a closed set.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "_other",
        }
    }
}

/// The forms of RFC 9112, 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// `host:port`, of CONNECT only.
    Authority,
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none and none was declared.
    None,
    /// Declared, possibly zero.
    Length(u64),
    /// Its end is marked in the stream: by the last chunk, or in HTTP/2 by END_STREAM.
    Chunked,
    /// With the connection; of responses only.
    UntilClose,
}

impl Framing {
    pub const fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }
}

/// A parsed request head. Reuse one per worker: it allocates only until its list of fields is long enough.
/// All spans are ranges of the bytes that were handed to `parse_request`.
#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    pub method_name: Span,
    pub version: Version,
    pub target: Target,
    /// Path and query: begins with a slash, or is `*`. Empty where an absolute form has no path (meaning `/`, or for
    /// OPTIONS `*`), begins with `?` where it has a query alone, and empty for an authority form.
    pub path: Span,
    /// `host[:port]` of the request, from the target if it has one, else from `Host`. Empty if a client of HTTP/1.0
    /// gave none, or if `Host` was empty.
    pub authority: Span,
    pub fields: Vec<Field>,
    /// Where the last field's line ends.
    pub(crate) fields_end: u32,
    /// Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// The client wants to send more requests.
    pub keep_alive: bool,
    /// The client may wait for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    /// Value of `Upgrade`, where the request asks for one that may be granted: HTTP/1.1, without body, named by
    /// `Connection`, and not `h2c`.
    pub upgrade: Option<Span>,
    /// `:protocol` of an extended CONNECT (RFC 8441); such a request has a path too. Never of HTTP/1.
    pub protocol: Option<Span>,
    /// The client takes trailers (`TE: trailers`).
    pub trailers: bool,
    /// Value of `x-request-id`; `None` also where there are several, which nobody can tell apart.
    pub request_id: Option<Span>,
    /// Value of `traceparent`; `None` also where there are several, which makes them invalid.
    pub traceparent: Option<Span>,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            method: Method::Other,
            method_name: Span::default(),
            version: Version::Http11,
            target: Target::Origin,
            path: Span::default(),
            authority: Span::default(),
            fields: Vec::new(),
            fields_end: 0,
            framing: Framing::None,
            keep_alive: false,
            expect_continue: false,
            upgrade: None,
            protocol: None,
            trailers: false,
            request_id: None,
            traceparent: None,
        }
    }
}

impl RequestHead {
    /// The first value of a field, by its name in any case. `bytes` are those the head was parsed from.
    pub fn value<'a>(&self, bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        value(&self.fields, bytes, name)
    }

    /// Path without the query; `/` where the target has none.
    pub fn path_only<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let path = self.path.of(bytes);
        match memchr::memchr(b'?', path).map_or(path, |query| &path[..query]) {
            [] => b"/",
            path => path,
        }
    }

    /// What must be remembered of the request until its response is over; small and `Copy`, so that head and buffer
    /// can go. `upgrade`: the request goes upstream with its `Upgrade` (see `RequestEdits::upgrade`).
    pub fn exchange(&self, upgrade: bool) -> Exchange {
        Exchange {
            // An extended CONNECT is a GET with `Upgrade` in HTTP/1.1.
            method: if self.protocol.is_some() { Method::Get } else { self.method },
            version: self.version,
            keep_alive: self.keep_alive,
            expect_continue: self.expect_continue && self.framing.has_body(),
            upgrade: upgrade && (self.upgrade.is_some() || self.protocol.is_some()),
            trailers: self.trailers,
            interim: 0,
        }
    }
}

/// What a response depends on of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub method: Method,
    /// The client's.
    pub version: Version,
    /// The client wants to go on after this.
    pub keep_alive: bool,
    /// The client may be waiting for `100 Continue`; cleared when one was parsed.
    pub expect_continue: bool,
    /// An upgrade was asked of the upstream, so that 101 is a possible answer.
    pub upgrade: bool,
    pub trailers: bool,
    /// Interim (1xx) responses seen; counted by `parse_response` and held to `Limits::interim_responses_max`.
    pub interim: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// 1xx but 101: another head follows.
    Interim,
    Final,
    /// 101 after an upgrade was asked for, or 2xx to CONNECT: from here on bytes pass both ways as they are.
    Tunnel,
}

/// A parsed response head. Reuse one per worker.
#[derive(Debug)]
pub struct ResponseHead {
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// May be empty, and is where the upstream's has bytes beyond ASCII.
    pub reason: Span,
    pub fields: Vec<Field>,
    /// Where the last field's line ends.
    pub(crate) fields_end: u32,
    pub kind: ResponseKind,
    /// How the body of *this* response ends, with the request's method taken into account.
    pub framing: Framing,
    /// `Content-Length` as declared, also where there is no body (HEAD, 304).
    pub content_length: Option<u64>,
    /// The upstream allows another request on this connection.
    pub keep_alive: bool,
    /// Value of `Upgrade` of a 101.
    pub upgrade: Option<Span>,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            version: Version::Http11,
            status: 0,
            reason: Span::default(),
            fields: Vec::new(),
            fields_end: 0,
            kind: ResponseKind::Final,
            framing: Framing::None,
            content_length: None,
            keep_alive: false,
            upgrade: None,
        }
    }
}

impl ResponseHead {
    /// The first value of a field, by its name in any case. `bytes` are those the head was parsed from.
    pub fn value<'a>(&self, bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        value(&self.fields, bytes, name)
    }
}

fn value<'a>(fields: &[Field], bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|field| field.kind != FieldKind::Crumb && field.name.of(bytes).eq_ignore_ascii_case(name))
        .map(|field| field.value.of(bytes))
}

/// First field of a kind.
pub(crate) fn of_kind(fields: &[Field], kind: FieldKind) -> Option<&Field> {
    fields.iter().find(|field| field.kind == kind)
}

//! What a proxy changes in a head that it passes on.

/// What a proxy changes in a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestEdits<'a> {
    /// Instead of the request's own `host[:port]`.
    pub host: Option<&'a [u8]>,
    /// Instead of the request's own path and query.
    pub path: Option<&'a [u8]>,
    /// Ask the upstream to close afterwards.
    pub close: bool,
    /// Pass `Upgrade` on, if the request has one ([`RequestHead::upgrade`]); in HTTP/2 it is an extended CONNECT. Otherwise
    /// it is left out, and the request is an ordinary one.
    pub upgrade: bool,
    /// Names of fields to leave out, in any case.
    pub remove: &'a [&'a [u8]],
    /// Fields to add at the end; what is not a valid field is left out.
    pub append: &'a [(&'a [u8], &'a [u8])],
}

/// What a proxy changes in a response.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseEdits<'a> {
    /// Tell the client that this is the last response on its connection.
    pub close: bool,
    pub remove: &'a [&'a [u8]],
    pub append: &'a [(&'a [u8], &'a [u8])],
}

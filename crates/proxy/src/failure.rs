//! Everything that can go wrong with a request or connection, and what follows: the status a client is told, the reason
//! in words, the metric label, and whether another endpoint may be tried.

use sinew_telemetry::Failure as Label;
use sinew_wire::h1::Reject;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client's message is refused by the engine.
    Rejected(Reject),
    /// The client did not finish its head in time.
    HeadTimeout,
    /// The client did not send its body in time.
    BodyTimeout,
    ClientGone,
    /// CONNECT is not served.
    MethodRefused,
    /// The caller's identity is not among those allowed.
    CallerRefused,
    /// The configuration that knew the destination has been replaced.
    UnknownDestination,
    NoEndpoint,
    /// As many requests wait for a connection as may.
    Overload,
    /// The process is short of memory.
    Shed,
    /// No connection to the application, or to any sidecar in front of it: nothing was processed.
    ConnectFailed,
    ConnectTimeout,
    /// The application listens on loopback alone, and the port is not declared.
    LoopbackOnly,
    /// The other sidecar is not who it should be, or the handshake failed.
    Identity,
    /// Closed before the answer was complete.
    UpstreamGone,
    UpstreamMalformed,
    UpstreamTimeout,
    /// gRPC: the time is over that the caller has given the call.
    Deadline,
    /// HTTP/2: the upstream has done nothing for the request, and says so.
    Unprocessed,
    /// The application was called over HTTP/2 and does not speak it.
    NotHttp2,
    /// The application was called over HTTP/1.1 and speaks HTTP/2 alone.
    NotHttp1,
    /// A tunnel was asked for and the upstream has not opened it.
    NotTunnelled,
}

impl Failure {
    /// 0: there is nobody left to be told.
    pub const fn status(self) -> u16 {
        match self {
            Self::Rejected(reject) => reject.status,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::ClientGone => 0,
            Self::MethodRefused => 405,
            Self::CallerRefused | Self::LoopbackOnly => 403,
            Self::NoEndpoint
            | Self::Overload
            | Self::Shed
            | Self::ConnectFailed
            | Self::UnknownDestination
            | Self::Unprocessed => 503,
            Self::Identity
            | Self::UpstreamGone
            | Self::UpstreamMalformed
            | Self::NotHttp2
            | Self::NotHttp1
            | Self::NotTunnelled => 502,
            Self::ConnectTimeout | Self::UpstreamTimeout | Self::Deadline => 504,
        }
    }

    /// The value of `x-sinew-reason`: a closed set.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Rejected(_) => "malformed-request",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::ClientGone => "client-gone",
            Self::MethodRefused => "method-refused",
            Self::CallerRefused => "caller-refused",
            Self::UnknownDestination => "unknown-destination",
            Self::NoEndpoint => "no-endpoint",
            Self::Overload | Self::Shed => "overload",
            Self::ConnectFailed => CONNECT_FAILED,
            Self::ConnectTimeout => "connect-timeout",
            Self::LoopbackOnly => "loopback-only",
            Self::Identity => "identity",
            Self::UpstreamGone => "upstream-gone",
            Self::UpstreamMalformed => "upstream-malformed",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::Deadline => "deadline",
            Self::Unprocessed => "unprocessed",
            Self::NotHttp2 => "not-http2",
            Self::NotHttp1 => "not-http1",
            Self::NotTunnelled => "not-tunnelled",
        }
    }

    /// The plain text of the answer.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rejected(reject) => reject.reason,
            Self::HeadTimeout => "the request's head did not arrive in time",
            Self::BodyTimeout => "the request's body did not arrive in time",
            Self::ClientGone => "the client went away",
            Self::MethodRefused => "CONNECT is not served here: call the service itself, without a proxy",
            Self::CallerRefused => "this service is not allowed to call that one (do they share a network?)",
            Self::UnknownDestination => "this destination is not known any more",
            Self::NoEndpoint => "no healthy instance of the service",
            Self::Overload => "too many requests wait for a connection to the service",
            Self::Shed => "the proxy is short of memory and takes no new requests for now",
            Self::ConnectFailed => "no instance of the service accepts connections on that port",
            Self::ConnectTimeout => "connecting to the service took too long",
            Self::LoopbackOnly => {
                "the service listens on loopback only on that port, which it does not declare (listen on 0.0.0.0, or `expose` it)"
            }
            Self::Identity => "the other side did not prove the identity that was expected",
            Self::UpstreamGone => "the service closed the connection before it answered",
            Self::UpstreamMalformed => "the service's answer is not valid HTTP",
            Self::UpstreamTimeout => "the service did not answer in time",
            Self::Deadline => "the time is over that the caller has given the call",
            Self::Unprocessed => "the service took no more requests",
            Self::NotHttp2 => "the service does not speak HTTP/2 on that port, which is declared to",
            Self::NotTunnelled => "the service did not switch to WebSocket",
            Self::NotHttp1 => "the service speaks HTTP/2 only on that port (declare it: `x-sinew.protocol`)",
        }
    }

    /// The value of `retry-after`, seconds, where the same may go well soon.
    pub const fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::Overload | Self::Shed => Some("1"),
            _ => None,
        }
    }

    /// What a gRPC client is told (`grpc-status`): codes that it may take for a reason to try again say the truth.
    pub const fn grpc_status(self) -> &'static str {
        const DEADLINE_EXCEEDED: &str = "4";
        const PERMISSION_DENIED: &str = "7";
        const RESOURCE_EXHAUSTED: &str = "8";
        const UNIMPLEMENTED: &str = "12";
        const INTERNAL: &str = "13";
        const UNAVAILABLE: &str = "14";
        match self {
            Self::Rejected(Reject { status: 413 | 431, .. }) => RESOURCE_EXHAUSTED,
            Self::Rejected(_) | Self::UpstreamMalformed => INTERNAL,
            Self::MethodRefused | Self::NotHttp2 | Self::NotHttp1 | Self::NotTunnelled => UNIMPLEMENTED,
            Self::CallerRefused | Self::LoopbackOnly => PERMISSION_DENIED,
            Self::HeadTimeout | Self::BodyTimeout | Self::UpstreamTimeout | Self::Deadline => {
                DEADLINE_EXCEEDED
            }
            Self::ClientGone
            | Self::UnknownDestination
            | Self::NoEndpoint
            | Self::Overload
            | Self::Shed
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Identity
            | Self::UpstreamGone
            | Self::Unprocessed => UNAVAILABLE,
        }
    }

    pub const fn label(self) -> Label {
        match self {
            Self::Rejected(_) | Self::MethodRefused => Label::ClientMalformed,
            Self::HeadTimeout | Self::BodyTimeout => Label::ClientTimeout,
            Self::ClientGone => Label::ClientGone,
            Self::CallerRefused => Label::Denied,
            Self::NoEndpoint | Self::UnknownDestination => Label::NoEndpoint,
            Self::Overload | Self::Shed => Label::Overload,
            Self::ConnectFailed => Label::Connect,
            Self::ConnectTimeout => Label::ConnectTimeout,
            Self::LoopbackOnly => Label::LoopbackOnly,
            Self::Identity => Label::Identity,
            Self::UpstreamGone | Self::Unprocessed => Label::UpstreamGone,
            Self::UpstreamMalformed | Self::NotHttp2 | Self::NotHttp1 | Self::NotTunnelled => {
                Label::UpstreamMalformed
            }
            Self::UpstreamTimeout | Self::Deadline => Label::UpstreamTimeout,
        }
    }

    /// No byte reached an application, so that any request may go to another endpoint.
    pub const fn is_before_the_application(self) -> bool {
        matches!(self, Self::ConnectFailed | Self::ConnectTimeout | Self::Identity)
    }
}

/// The header in which a sidecar says why it answered itself. It is taken out of what applications send, so on the hop
/// it is the other sidecar's own word.
pub const REASON_HEADER: &[u8] = b"x-sinew-reason";
/// Its value when the application was not reached: the caller may try another endpoint with any request.
pub const CONNECT_FAILED: &str = "connect-failed";

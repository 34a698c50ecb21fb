//! A byte stream to or from anybody: one type, so that nothing above is generic over sockets.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::TlsStream;

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed: a session is some KiB large.
    Tls(Box<TlsStream>),
}

/// What TLS runs over.
#[derive(Debug)]
pub enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Tells the peer now that its bytes have come, instead of some 40 ms later. Many applications write an answer in two
    /// pieces, and their kernel holds the second back until the first is acknowledged (Nagle). Linux; TCP only.
    pub fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(stream) = self {
            // A failure costs those 40 ms.
            let _ = stream.set_quickack(true);
        }
    }

    /// Lets the peer see that this stream was cut, and not ended in order. Call it just before dropping, without
    /// `shutdown`. TCP is reset. TLS needs no more than that: an end without `close_notify` is an error at the other
    /// side, not an end ([`io::ErrorKind::UnexpectedEof`]). A bare Unix stream has no such sign: what runs over one must
    /// say itself where it ends.
    pub fn abort(&self) {
        if let Self::Tcp(stream) = self {
            // A failure leaves an ordinary close: nothing better could be done.
            let _ = stream.set_zero_linger();
        }
    }

    /// Tells the peer that this is the end, where a stream has a way to say so besides ending: TLS. Call it just before
    /// dropping, when nothing is under way, instead of `shutdown`.
    pub async fn farewell(&mut self) {
        if let Self::Tls(stream) = self {
            // Whoever is gone needs none.
            let _ = poll_fn(|cx| stream.poll_farewell(cx)).await;
        }
    }
}

impl Stream {
    /// Whether a connection that waits for its next use can be used: nothing has arrived on it, its end neither. Asks
    /// the kernel, as the runtime may not have heard yet.
    #[cfg(target_os = "linux")]
    pub fn is_quiet(&mut self) -> bool {
        use std::os::fd::AsFd;
        // What a session has decrypted, or has been told, is not in its socket any more.
        if let Self::Tls(stream) = self
            && !stream.is_quiet()
        {
            return false;
        }
        let descriptor = match &*self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.raw().as_fd(),
        };
        crate::sys::is_quiet(descriptor)
    }

    /// Like [`Stream::is_quiet`], but asks only the runtime, which knows what the kernel told it when it waited last: a
    /// connection that has ended since then seems quiet.
    pub fn seems_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let raw = match self {
            Self::Tcp(stream) => stream.poll_read_ready(&mut context),
            Self::Unix(stream) => stream.poll_read_ready(&mut context),
            Self::Tls(stream) => stream.raw().poll_read_ready(&mut context),
        };
        // What a session has decrypted is not in its socket any more: then the whole question is asked.
        let is_decrypted = matches!(self, Self::Tls(stream) if !stream.session().wants_read());
        if raw.is_pending() && !is_decrypted { true } else { self.is_quiet() }
    }

    #[cfg(not(target_os = "linux"))]
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut context, &mut buffer).is_pending()
    }
}

impl Raw {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }
}

#[cfg(target_os = "linux")]
impl std::os::fd::AsFd for Raw {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        // Fails only for a socket that is gone already; the first read or write reports that.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<Raw> for Stream {
    fn from(raw: Raw) -> Self {
        match raw {
            Raw::Tcp(stream) => stream.into(),
            Raw::Unix(stream) => stream.into(),
        }
    }
}

macro_rules! each {
    ($self:expr, $variants:ident { $($variant:ident),* }, $stream:ident => $body:expr) => {
        match $self.get_mut() {
            $($variants::$variant($stream) => { let $stream = Pin::new($stream); $body })*
        }
    };
}

macro_rules! delegate {
    ($name:ident { $($variant:ident),* }) => {
        impl AsyncRead for $name {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                each!(self, $name { $($variant),* }, stream => stream.poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                each!(self, $name { $($variant),* }, stream => stream.poll_write(cx, buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                each!(self, $name { $($variant),* }, stream => stream.poll_write_vectored(cx, slices))
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(stream) => stream.is_write_vectored(),)*
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $name { $($variant),* }, stream => stream.poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $name { $($variant),* }, stream => stream.poll_shutdown(cx))
            }
        }
    };
}

delegate!(Stream { Tcp, Unix, Tls });
delegate!(Raw { Tcp, Unix });

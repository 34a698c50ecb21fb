//! A TLS session over a socket. It says what it has to say in as few writes as there are turns: a flight is one, and what
//! nobody waits for (a server's session ticket, new keys) goes with the next bytes of the application.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Raw;

/// Encrypted and not written yet, per connection.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub struct TlsStream {
    raw: Raw,
    session: Connection,
    /// The socket has ended, and the peer had not said that it would.
    is_cut: bool,
    /// Of a read that had brought bytes; told at the next.
    failed: Option<io::Error>,
}

impl TlsStream {
    /// Until the peer is known. What is left to say (a client's last flight, with its certificate) is not sent before the
    /// first bytes, or a flush.
    pub async fn handshake(raw: Raw, session: impl Into<Connection>) -> io::Result<Self> {
        let mut stream = Self { raw, session: session.into(), is_cut: false, failed: None };
        stream.session.set_buffer_limit(Some(BUFFER_BYTES_MAX));
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    pub fn session(&self) -> &Connection {
        &self.session
    }

    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// Whether nothing is decrypted that was not read, and the peer has not said that it ends.
    pub fn is_quiet(&mut self) -> bool {
        let state = self.session.process_new_packets();
        state.is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
    }

    /// Tells the peer that nothing more comes. Whoever left without a word is told nothing.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Ok(()));
        }
        self.session.send_close_notify();
        self.poll_send(cx)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_send(cx))?;
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and decrypts what has come whole. 0: the peer has ended.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = match self.session.read_tls(&mut Socket { raw: &mut self.raw, cx }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            result => result?,
        };
        match self.session.process_new_packets() {
            Ok(state) => {
                self.is_cut = count == 0 && !state.peer_has_closed();
                Poll::Ready(Ok(count))
            }
            Err(error) => {
                // The alert that says why, if the kernel takes it at once.
                let _ = self.poll_send(cx);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
            }
        }
    }

    /// Writes all that is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket { raw: &mut self.raw, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what is decrypted. True: there is no more of it, and more may come.
    fn take(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        while buf.remaining() > 0 {
            let mut reader = self.session.reader();
            let count = match reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                result => {
                    let chunk = result?;
                    let count = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..count]);
                    count
                }
            };
            if count == 0 {
                return Ok(false);
            }
            reader.consume(count);
        }
        Ok(false)
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if let Some(error) = stream.failed.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        loop {
            let taken = stream.take(buf);
            let is_some = buf.filled().len() > before;
            match taken {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Ok(())),
                // The session says it again.
                Err(_) if is_some => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
            match stream.poll_receive(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    // What came whole before it is good.
                    let _ = stream.take(buf);
                    if buf.filled().len() == before {
                        return Poll::Ready(Err(error));
                    }
                    stream.failed = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending if is_some => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let taken = stream.session.writer().write(buf)?;
            let sent = stream.poll_send(cx);
            match (taken, sent) {
                (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                (0, Poll::Pending) => return Poll::Pending,
                (0, Poll::Ready(Ok(()))) => {}
                (taken, _) => return Poll::Ready(Ok(taken)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        ready!(stream.poll_farewell(cx))?;
        match ready!(Pin::new(&mut stream.raw).poll_shutdown(cx)) {
            // It is gone already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

/// The socket as a session uses it: `WouldBlock` instead of waiting.
struct Socket<'a, 'b> {
    raw: &'a mut Raw,
    cx: &'a mut Context<'b>,
}

fn now_or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Socket<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        now_or_would_block(Pin::new(&mut *self.raw).poll_read(self.cx, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        now_or_would_block(Pin::new(&mut *self.raw).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        match records {
            // The cheaper call.
            [record] => self.write(record),
            records => now_or_would_block(Pin::new(&mut *self.raw).poll_write_vectored(self.cx, records)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

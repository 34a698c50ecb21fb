//! A client's connection as the load generator sees it: bytes, with or without TLS, never waiting.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// TLS as a client of a proxy speaks it.
#[derive(Clone)]
pub struct Secured {
    pub config: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
}

pub struct Link {
    stream: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Link {
    /// Connects; TLS shakes hands as its bytes arrive.
    pub fn connect(target: SocketAddr, secured: Option<&Secured>) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let session = match secured {
            None => None,
            Some(Secured { config, server_name }) => Some(Box::new(
                ClientConnection::new(config.clone(), server_name.clone()).map_err(io::Error::other)?,
            )),
        };
        let mut link = Self { stream, session };
        link.flush()?;
        Ok(link)
    }

    /// The other end of one, without TLS.
    pub fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, session: None })
    }

    /// 0: the peer has ended. `WouldBlock`: nothing is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { stream, session } = self;
        let Some(session) = session else { return stream.read(buffer) };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if session.read_tls(stream)? == 0 {
                return Ok(0);
            }
            session.process_new_packets().map_err(io::Error::other)?;
            while session.wants_write() {
                session.write_tls(stream)?;
            }
        }
    }

    /// How much was taken; less than all of it when the kernel's buffer is full.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                result => result,
            };
        };
        let taken = session.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Sends what TLS holds, as far as the kernel takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        let Self { stream, session: Some(session) } = self else { return Ok(()) };
        while session.wants_write() {
            match session.write_tls(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                result => result?,
            };
        }
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

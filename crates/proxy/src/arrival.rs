//! Accepted connections on their way from the worker that accepts to the one that serves them.

use std::io;
use std::net::{self, SocketAddr};
use std::os::unix::net as unix;
use std::rc::Rc;

use sinew_spec::proxy::Published;
use sinew_transport::stream::Raw;
use tokio::net::{TcpStream, UnixStream};

use crate::worker::Worker;
use crate::{gateway, inbound, outbound};

/// A connection that no runtime knows.
#[derive(Debug)]
pub enum Arrival {
    /// With its original destination.
    Outbound(net::TcpStream, SocketAddr),
    /// Boxed: connections are many, and what else is in here is small.
    Published(net::TcpStream, Box<Published>),
    HopTcp(net::TcpStream),
    HopUnix(unix::UnixStream),
}

impl Arrival {
    /// Errors, here and below: the runtime did not let go of the connection, which is closed.
    pub fn outbound(stream: TcpStream, meant: SocketAddr) -> io::Result<Self> {
        Ok(Self::Outbound(stream.into_std()?, meant))
    }

    pub fn published(stream: TcpStream, published: Published) -> io::Result<Self> {
        Ok(Self::Published(stream.into_std()?, Box::new(published)))
    }

    pub fn hop(raw: Raw) -> io::Result<Self> {
        Ok(match raw {
            Raw::Tcp(stream) => Self::HopTcp(stream.into_std()?),
            Raw::Unix(stream) => Self::HopUnix(stream.into_std()?),
        })
    }

    /// Serves it on `worker`, whose thread this is.
    pub fn begin(self, worker: &Rc<Worker>) {
        // Before anything can fail: whoever gave it counts it until it ends.
        let admitted = worker.admit();
        // One that the runtime cannot take, as descriptors or memory are out, is closed.
        let _ =
            match self {
                Self::Outbound(stream, meant) => {
                    TcpStream::from_std(stream).map(|stream| outbound::begin(worker, admitted, stream, meant))
                }
                Self::Published(stream, published) => TcpStream::from_std(stream)
                    .map(|stream| gateway::begin(worker, admitted, stream, &published)),
                Self::HopTcp(stream) => TcpStream::from_std(stream)
                    .map(|stream| inbound::begin(worker, admitted, Raw::Tcp(stream))),
                Self::HopUnix(stream) => UnixStream::from_std(stream)
                    .map(|stream| inbound::begin(worker, admitted, Raw::Unix(stream))),
            };
    }
}

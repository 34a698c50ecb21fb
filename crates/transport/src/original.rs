//! Where a redirected connection was meant to go.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// `SO_ORIGINAL_DST` (netfilter): the destination before the redirect inside the seal. An error when the connection was
/// not redirected at all (somebody dialed the reserved port itself).
#[cfg(target_os = "linux")]
pub fn destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    let destination = crate::sys::original_destination(stream, local.is_ipv6())?;
    if destination == local {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the connection was not redirected"));
    }
    Ok(destination)
}

#[cfg(not(target_os = "linux"))]
pub fn destination(_: &TcpStream) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "redirects are known on Linux only"))
}

//! Socket options and reads that have no safe wrapper.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// `linux/netfilter_ipv6/ip6_tables.h`; absent from `libc`.
const IP6T_SO_ORIGINAL_DST: libc::c_int = 80;

pub fn original_destination(socket: &impl AsRawFd, ipv6: bool) -> io::Result<SocketAddr> {
    if ipv6 {
        let raw: libc::sockaddr_in6 = option(socket, libc::SOL_IPV6, IP6T_SO_ORIGINAL_DST)?;
        let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
        Ok(SocketAddr::new(address.into(), u16::from_be(raw.sin6_port)))
    } else {
        let raw: libc::sockaddr_in = option(socket, libc::SOL_IP, libc::SO_ORIGINAL_DST)?;
        let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
        Ok(SocketAddr::new(address.into(), u16::from_be(raw.sin_port)))
    }
}

/// Reads one option whose value is a plain C structure.
fn option<T: Copy>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `length` bytes, and the kernel writes no more than `length`. nix's typed options
    // do not know the IPv6 one.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < size_of::<T>() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "socket option shorter than its type"));
    }
    // SAFETY: zeroed and filled by the kernel; the callers' types are integers only, for which every pattern is valid.
    Ok(unsafe { value.assume_init() })
}

/// One datagram without waiting; a longer one is cut to the buffer's size.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its length. `std` has no receive on a bare descriptor.
    let read = unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

/// A descriptor that wakes its reader. The safe constructor of tokio is deprecated as it takes any `AsRawFd`.
pub fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, is never replaced, and nobody takes it out of the private field it is put in.
    unsafe { AsyncFd::register_with_interest(socket, tokio::io::Interest::READABLE) }.map_err(io::Error::from)
}

/// Whether nothing has arrived on a socket: no byte, no end, no error.
pub fn is_quiet(socket: BorrowedFd<'_>) -> bool {
    let mut byte = 0u8;
    // SAFETY: one byte is writable. `std` peeks only on its own blocking types.
    let read = unsafe {
        libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_DONTWAIT | libc::MSG_PEEK)
    };
    read < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

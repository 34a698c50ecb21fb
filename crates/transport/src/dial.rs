//! To a host with several addresses: whichever accepts first (RFC 8305), so that an address, or a whole family, that
//! swallows packets costs a quarter of a second and not all the time there is to connect.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Before another address is tried beside those that have not answered (RFC 8305, 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Of a name; what a resolver says beyond it is not tried.
const ADDRESSES_MAX: usize = 8;

/// The caller bounds the time.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect();
    connect_any(&in_turn(&addresses)).await
}

/// The families in turn, beginning with the first one's: the resolver has put the best first (RFC 6724).
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_like_first = |address: &&SocketAddr| address.is_ipv6() == addresses[0].is_ipv6();
    let mut like = addresses.iter().filter(is_like_first);
    let mut others = addresses.iter().filter(|address| !is_like_first(address));
    let mut turns = Vec::with_capacity(addresses.len());
    while turns.len() < addresses.len() {
        turns.extend(like.next());
        turns.extend(others.next());
    }
    turns
}

/// In this order; one that fails makes place for the next at once. Fails with what the last one failed with.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut left = addresses.iter().copied();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    loop {
        if let Some(address) = left.next() {
            attempts.spawn(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(error) => failure = io::Error::other(error),
            },
            () = sleep(NEXT_AFTER), if left.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests;

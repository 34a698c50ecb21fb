//! Dialing another sidecar, or a server that has none.

use std::io;
use std::time::Duration;

use sinew_spec::proxy::HopAddress;
use tokio::net::{TcpStream, UnixStream};

use crate::stream::Raw;

/// How long to wait before asking again a Unix listener whose queue is full.
const QUEUE_FULL_PAUSE_MS: u64 = 5;

/// Connects; waits as long as the listener's queue is full, so the caller bounds the time.
pub async fn dial(address: &HopAddress) -> io::Result<Raw> {
    match address {
        HopAddress::Tcp(address) | HopAddress::Plain(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Raw::Tcp(stream))
        }
        HopAddress::Unix(path) => loop {
            match UnixStream::connect(path).await {
                // A full queue of a Unix listener is told at once (EAGAIN), not waited for as with TCP. It fills while a
                // sidecar is being replaced.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(QUEUE_FULL_PAUSE_MS)).await;
                }
                result => return result.map(Raw::Unix),
            }
        },
    }
}

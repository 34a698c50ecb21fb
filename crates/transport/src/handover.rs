//! The messages of a hand-over (`spec::handover`) and the socket they go over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use sinew_spec::handover::{HandoverMessage, MESSAGE_BYTES_MAX};

use crate::descriptors::{Channel, peer_uid};

/// One message, with descriptors beside it.
pub async fn send(
    channel: &Channel,
    message: &HandoverMessage,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, descriptors).await
}

/// The next message. Errors: `UnexpectedEof` when the other side has ended, `InvalidData` for what is none.
pub async fn receive(channel: &Channel) -> io::Result<(HandoverMessage, Vec<OwnedFd>)> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    let (length, descriptors) = channel.receive(&mut buffer).await?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let message = serde_json::from_slice(&buffer[..length])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((message, descriptors))
}

/// [`receive`], and nothing but that message.
pub async fn expect(channel: &Channel, expected: &HandoverMessage) -> io::Result<()> {
    match receive(channel).await? {
        (message, _) if message == *expected => Ok(()),
        (message, _) => Err(unexpected(&message)),
    }
}

pub fn unexpected(message: &HandoverMessage) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message out of turn: {message:?}"))
}

/// The process that serves behind `path`. As long as the connection lives, nobody takes its place.
pub async fn who(path: &Path) -> io::Result<(i32, Channel)> {
    let channel = Channel::connect(path).await?;
    send(&channel, &HandoverMessage::Who, &[]).await?;
    match receive(&channel).await? {
        (HandoverMessage::Serves { pid }, _) => Ok((pid, channel)),
        (message, _) => Err(unexpected(&message)),
    }
}

/// Whether the other side is a process of the same user.
pub fn is_ours(channel: &Channel) -> bool {
    peer_uid(channel.as_fd()).is_ok_and(|uid| uid == nix::unistd::geteuid().as_raw())
}

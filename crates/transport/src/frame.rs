//! JSON messages over a stream: each a big-endian u32 length and that many bytes. Spoken between the control plane and
//! proxies; see `spec::proxy`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_spec::proxy::FRAME_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a reader takes at once, and keeps at most while it holds nothing.
const CHUNK_BYTES: usize = 4 * 1024;
const LENGTH_BYTES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the stream ended within a message")]
    Cut,
    #[error("a message of {0} bytes, more than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("not the message that was expected: {0}")]
    Json(#[from] serde_json::Error),
}

/// The reading half. Memory grows with what has arrived, not with what a length promises.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
}

impl FrameReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// The next message; `None`: the stream ended between two. Cancel safe: what was read stays in the buffer.
    pub async fn next<T: DeserializeOwned>(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            self.buffer.reserve(CHUNK_BYTES);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }

    fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body);
        self.buffer.drain(..LENGTH_BYTES + length);
        if self.buffer.is_empty() {
            self.buffer.shrink_to(CHUNK_BYTES);
        }
        Ok(Some(message?))
    }
}

/// Writes one message. Not cancel safe: a stream on which this was interrupted is of no more use.
pub async fn write_frame<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    let mut bytes = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - LENGTH_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    bytes[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    stream.write_all(&bytes).await?;
    Ok(())
}

#[cfg(test)]
mod tests;

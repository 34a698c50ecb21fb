//! How an engine puts the output and the errors of a process into one stream: frames of a source, a length and bytes.

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Output,
    Errors,
}

/// Takes a stream apart, wherever it is cut. Holds no bytes but a cut header.
#[derive(Debug, Default)]
pub struct Frames {
    header: Vec<u8>,
    /// Of the frame that is being read.
    left: usize,
    errors: bool,
}

/// Source (0: input, echoed; 1: output; 2: errors), three bytes of nothing, the length in network order.
const HEADER_BYTES: usize = 8;

impl Frames {
    /// Calls `each` for every piece, in order.
    pub fn add(&mut self, mut bytes: &[u8], mut each: impl FnMut(Source, &[u8])) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = (HEADER_BYTES - self.header.len()).min(bytes.len());
                self.header.extend(&bytes[..missing]);
                bytes = &bytes[missing..];
                if let [source, _, _, _, a, b, c, d] = *self.header.as_slice() {
                    self.errors = source == 2;
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.header.clear();
                }
                continue;
            }
            let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
            each(if self.errors { Source::Errors } else { Source::Output }, piece);
            self.left -= piece.len();
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]], expected: &str) {
        let mut frames = Frames::default();
        let mut said = String::new();
        for piece in pieces {
            frames.add(piece, |source, bytes| {
                let from = if source == Source::Errors { '!' } else { '.' };
                said.push(from);
                said.push_str(&String::from_utf8_lossy(bytes));
            });
        }
        assert_eq!(said, expected);
    }

    #[test]
    fn frames_are_found_wherever_the_stream_is_cut() {
        let whole = b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01x\x01\0\0\0\0\0\0\0";
        check(&[whole], ".abc!x");
        check(&[&whole[..2], &whole[2..9], &whole[9..]], ".a.bc!x");
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        check(&bytes, ".a.b.c!x");
    }
}

//! Which protocol a client speaks, from as few of its first bytes as possible.

/// The client's connection preface of HTTP/2 (RFC 9113, 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Methods that make a connection HTTP/1.1: those of RFC 9110 and 5789, and the registered ones that are in use.
/// A closed list, because `INFO {...}` (NATS), `SUB x` or `HELO x` are tokens and a space as well.
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"QUERY ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"LOCK ",
    b"UNLOCK ",
    b"REPORT ",
    b"SEARCH ",
    b"MERGE ",
    b"PURGE ",
    b"LINK ",
    b"UNLINK ",
    b"SUBSCRIBE ",
    b"UNSUBSCRIBE ",
    b"NOTIFY ",
    b"M-SEARCH ",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// So far a prefix of more than one possibility; at most 23 bytes are ever needed.
    NeedMore,
    /// The same, of a request line or a preface: what was sent so far has no meaning but in HTTP, if the client goes on.
    MayBeHttp,
    Http1,
    /// HTTP/2 with prior knowledge: the whole preface was seen.
    Http2,
    /// A TLS record that carries a handshake.
    Tls,
    Other,
}

/// Decides by `bytes`, everything the client has sent so far. Never consumes: the same bytes go to the engine chosen.
///
/// HTTP/1.1 is a known method, a space, and the first byte of a request target (`/`, `*`, or a letter, digit or
/// bracket that begins an absolute form or an authority); that keeps text protocols whose commands look like methods apart.
pub fn detect(bytes: &[u8]) -> Detection {
    let Some(&first) = bytes.first() else { return Detection::NeedMore };
    match first {
        0x16 => detect_tls(bytes),
        // One empty line before a request line is allowed (RFC 9112, 2.2).
        b'\r' => match bytes {
            [b'\r'] | [b'\r', b'\n'] => Detection::NeedMore,
            [b'\r', b'\n', rest @ ..] => detect_method(rest),
            _ => Detection::Other,
        },
        b'A'..=b'Z' => {
            let preface = HTTP2_PREFACE.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            if preface == HTTP2_PREFACE.len() {
                Detection::Http2
            } else if preface == bytes.len() && preface > 2 {
                // `PR` may still become PROPFIND.
                Detection::MayBeHttp
            } else {
                detect_method(bytes)
            }
        }
        _ => Detection::Other,
    }
}

/// Record type 22, version 3.x, and where visible: a length of at most 2^14 and the handshake type `client_hello`.
fn detect_tls(bytes: &[u8]) -> Detection {
    const HELLO: usize = 5;
    for (i, &byte) in bytes.iter().enumerate().take(HELLO + 1).skip(1) {
        let fits = match i {
            1 => byte == 3,
            2 => byte <= 4,
            3 => byte <= 0x40,
            HELLO => byte == 1,
            _ => true,
        };
        if !fits {
            return Detection::Other;
        }
    }
    if bytes.len() > HELLO { Detection::Tls } else { Detection::NeedMore }
}

fn detect_method(bytes: &[u8]) -> Detection {
    for method in METHODS {
        if let Some(rest) = bytes.strip_prefix(*method) {
            return match rest.first() {
                None => Detection::MayBeHttp,
                Some(b'/' | b'*' | b'[' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-') => {
                    Detection::Http1
                }
                Some(_) => Detection::Other,
            };
        }
    }
    let may_become = METHODS.iter().any(|method| method.starts_with(bytes));
    if may_become { Detection::MayBeHttp } else { Detection::Other }
}

#[cfg(test)]
mod tests;

//! What HTTP/2 says of single fields, found out once for an entry of a table: which field it is, and whether its bytes may
//! stand in a message (RFC 9113, 8.2.1).

use crate::head::FieldKind;
use crate::text::{is_field_value, is_token_byte};

/// What a field is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Field(FieldKind),
    /// Kept apart from the others, as they need to be joined.
    Cookie,
    /// gRPC lets spaces stand as they are, also at the ends of a message, which HTTP/2 does not.
    GrpcMessage,
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Protocol,
    UnknownPseudo,
    Malformed,
}

/// A field's name, and whether its value is well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub name: Name,
    pub is_value_fit: bool,
}

impl Checked {
    pub(super) fn of(name: &[u8], value: &[u8]) -> Self {
        let name = Name::of(name);
        let is_value_fit = if name == Name::GrpcMessage { is_field_value(value) } else { is_value(value) };
        Self { name, is_value_fit }
    }
}

impl Name {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            [b':', ..] => match name {
                b":method" => Self::Method,
                b":scheme" => Self::Scheme,
                b":authority" => Self::Authority,
                b":path" => Self::Path,
                b":status" => Self::Status,
                b":protocol" => Self::Protocol,
                _ => Self::UnknownPseudo,
            },
            b"cookie" => Self::Cookie,
            b"grpc-message" => Self::GrpcMessage,
            _ if is_name(name) => Self::Field(FieldKind::of(name)),
            _ => Self::Malformed,
        }
    }
}

/// Bytes of a token in lower case.
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_token_byte(byte as u8) && !(byte as u8).is_ascii_uppercase();
        byte += 1;
    }
    table
};

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().fold(true, |fits, &byte| fits & NAME_BYTES[usize::from(byte)])
}

/// Neither begins nor ends with white space, and has no control bytes.
fn is_value(value: &[u8]) -> bool {
    let is_trimmed =
        !matches!(value.first(), Some(b' ' | b'\t')) && !matches!(value.last(), Some(b' ' | b'\t'));
    is_trimmed && is_field_value(value)
}

/// Names whose values no table may hold (RFC 7541, 7.1.3): a guess that fits would make a block shorter.
pub(super) fn is_sensitive(name: &[u8]) -> bool {
    match name.len() {
        6 => name == b"cookie",
        9 => name == b"x-api-key",
        10 => name == b"set-cookie",
        12 => name == b"x-auth-token" || name == b"x-csrf-token",
        13 => name == b"authorization",
        19 => name == b"proxy-authorization",
        20 => name == b"x-amz-security-token",
        _ => false,
    }
}

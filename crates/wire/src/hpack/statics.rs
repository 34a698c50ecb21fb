//! The static table (RFC 7541, appendix A), as lines.

use super::names::{Checked, Name};
use super::table::Line;
use crate::head::FieldKind;

pub(super) const COUNT: usize = 61;

macro_rules! line {
    ($name:literal, $value:literal) => {
        (concat!($name, ": ", $value, "\r\n").as_bytes(), $name.len())
    };
}

#[rustfmt::skip]
static LINES: [(&[u8], usize); COUNT] = [
    line!(":authority", ""),
    line!(":method", "GET"),
    line!(":method", "POST"),
    line!(":path", "/"),
    line!(":path", "/index.html"),
    line!(":scheme", "http"),
    line!(":scheme", "https"),
    line!(":status", "200"),
    line!(":status", "204"),
    line!(":status", "206"),
    line!(":status", "304"),
    line!(":status", "400"),
    line!(":status", "404"),
    line!(":status", "500"),
    line!("accept-charset", ""),
    line!("accept-encoding", "gzip, deflate"),
    line!("accept-language", ""),
    line!("accept-ranges", ""),
    line!("accept", ""),
    line!("access-control-allow-origin", ""),
    line!("age", ""),
    line!("allow", ""),
    line!("authorization", ""),
    line!("cache-control", ""),
    line!("content-disposition", ""),
    line!("content-encoding", ""),
    line!("content-language", ""),
    line!("content-length", ""),
    line!("content-location", ""),
    line!("content-range", ""),
    line!("content-type", ""),
    line!("cookie", ""),
    line!("date", ""),
    line!("etag", ""),
    line!("expect", ""),
    line!("expires", ""),
    line!("from", ""),
    line!("host", ""),
    line!("if-match", ""),
    line!("if-modified-since", ""),
    line!("if-none-match", ""),
    line!("if-range", ""),
    line!("if-unmodified-since", ""),
    line!("last-modified", ""),
    line!("link", ""),
    line!("location", ""),
    line!("max-forwards", ""),
    line!("proxy-authenticate", ""),
    line!("proxy-authorization", ""),
    line!("range", ""),
    line!("referer", ""),
    line!("refresh", ""),
    line!("retry-after", ""),
    line!("server", ""),
    line!("set-cookie", ""),
    line!("strict-transport-security", ""),
    line!("transfer-encoding", ""),
    line!("user-agent", ""),
    line!("vary", ""),
    line!("via", ""),
    line!("www-authenticate", ""),
];

/// The entry with an index from 1 to 61.
pub(super) fn get(index: usize) -> Option<Line<'static>> {
    let &(bytes, name_len) = LINES.get(index.checked_sub(1)?)?;
    Some(Line { bytes, name_len, checked: Checked { name: name(index), is_value_fit: true } })
}

const fn name(index: usize) -> Name {
    match index {
        1 => Name::Authority,
        2 | 3 => Name::Method,
        4 | 5 => Name::Path,
        6 | 7 => Name::Scheme,
        8..=14 => Name::Status,
        28 => Name::Field(FieldKind::ContentLength),
        32 => Name::Cookie,
        35 => Name::Field(FieldKind::Expect),
        38 => Name::Field(FieldKind::Host),
        57 => Name::Field(FieldKind::TransferEncoding),
        _ => Name::Field(FieldKind::EndToEnd),
    }
}

/// The lowest index of an entry with this name; a match on length and bytes, no search.
pub(super) fn index_of_name(name: &[u8]) -> Option<usize> {
    Some(match name {
        b":authority" => 1,
        b":method" => 2,
        b":path" => 4,
        b":scheme" => 6,
        b":status" => 8,
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"expect" => 35,
        b"expires" => 36,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"max-forwards" => 47,
        b"proxy-authenticate" => 48,
        b"proxy-authorization" => 49,
        b"range" => 50,
        b"referer" => 51,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"transfer-encoding" => 57,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => return None,
    })
}

/// The index of a status code that stands in the table.
pub(super) const fn index_of_status(status: u16) -> Option<usize> {
    Some(match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return None,
    })
}

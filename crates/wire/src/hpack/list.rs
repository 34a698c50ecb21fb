//! A decoded list of fields.

use super::ENTRY_OVERHEAD;
use super::names::{Checked, Name};
use super::table::{LINE_OVERHEAD, Line};
use crate::head::{Field, FieldKind, Span};
use crate::text::trim;

/// What a list may have. Held to before anything is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListLimits {
    /// Names, values and 32 for each field: what SETTINGS_MAX_HEADER_LIST_SIZE counts.
    pub bytes_max: usize,
    /// Pseudo-fields included.
    pub fields_max: usize,
}

/// A list of so many times the bytes that are allowed ends its connection.
const EXCESS: usize = 4;
/// Lists that nobody wants are allowed no bytes, and are no attack for that.
const EXCESS_BYTES_MIN: usize = 64 * 1024;

/// The beginning of a line.
const GRPC: &[u8] = b"content-type: application/grpc";

/// Values of the pseudo-fields that were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pseudo {
    pub method: Option<Span>,
    pub scheme: Option<Span>,
    pub authority: Option<Span>,
    pub path: Option<Span>,
    pub status: Option<Span>,
    pub protocol: Option<Span>,
}

/// Fields as ranges of `bytes`, which are lines `name: value` CR LF. Reuse one per worker: it allocates only until it
/// is large enough.
#[derive(Debug, Default)]
pub struct FieldList {
    pub bytes: Vec<u8>,
    /// Without the pseudo-fields.
    pub fields: Vec<Field>,
    pub pseudo: Pseudo,
    /// Why the list is malformed, the first reason met. A closed set.
    pub fault: Option<&'static str>,
    /// A limit was reached: what came behind it is not in the list.
    pub is_too_large: bool,
    /// What came behind a limit says that this is a gRPC call.
    pub is_grpc: bool,
    size: usize,
    count: usize,
    cookies: Cookies,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cookies {
    count: usize,
    first: usize,
    never_indexed: bool,
}

impl FieldList {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.pseudo = Pseudo::default();
        (self.fault, self.is_too_large, self.is_grpc) = (None, false, false);
        (self.size, self.count) = (0, 0);
        self.cookies = Cookies::default();
    }

    /// What one more field may have in name and value together.
    pub(super) fn room(&self, limits: &ListLimits) -> usize {
        if self.is_too_large || self.count >= limits.fields_max {
            return 0;
        }
        limits.bytes_max.saturating_sub(self.size + ENTRY_OVERHEAD)
    }

    /// Whether another field fits; counts it.
    fn admit(&mut self, size: usize, limits: &ListLimits) -> bool {
        self.is_too_large |= self.count >= limits.fields_max || self.size + size > limits.bytes_max;
        self.size += size;
        self.count += 1;
        !self.is_too_large
    }

    /// So far beyond `limits` that nobody means it: a small block that refers to a large entry again and again.
    pub(super) fn is_excessive(&self, limits: &ListLimits) -> bool {
        self.size > EXCESS * limits.bytes_max.max(EXCESS_BYTES_MIN)
    }

    pub(super) fn push(&mut self, line: Line<'_>, limits: &ListLimits) {
        if self.admit(line.size(), limits) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(line.bytes);
            self.note(start, line.name_len, line.checked, false);
        } else {
            self.is_grpc |= line.bytes.starts_with(GRPC);
        }
    }

    /// A line that stands at the end of `bytes` already. If it does not fit it is taken away.
    pub(super) fn accept(
        &mut self,
        start: usize,
        name_len: usize,
        checked: Checked,
        never_indexed: bool,
        limits: &ListLimits,
    ) {
        if self.admit(self.bytes.len() - start - LINE_OVERHEAD + ENTRY_OVERHEAD, limits) {
            self.note(start, name_len, checked, never_indexed);
        } else {
            self.is_grpc |= self.bytes[start..].starts_with(GRPC);
            self.bytes.truncate(start);
        }
    }

    fn note(&mut self, start: usize, name_len: usize, checked: Checked, never_indexed: bool) {
        let name = Span::new(start, start + name_len);
        let mut value = Span::new(start + name_len + 2, self.bytes.len() - 2);
        if !checked.is_value_fit {
            self.set_fault("malformed field value");
        }
        let kind = match checked.name {
            Name::Field(kind) => kind,
            Name::Cookie => {
                if self.cookies.count == 0 {
                    self.cookies.first = self.fields.len();
                }
                self.cookies.count += 1;
                self.cookies.never_indexed |= never_indexed;
                FieldKind::EndToEnd
            }
            Name::GrpcMessage => {
                value = trimmed(value, &self.bytes);
                FieldKind::EndToEnd
            }
            Name::Malformed => return self.set_fault("malformed field name"),
            pseudo => return self.note_pseudo(pseudo, value),
        };
        self.fields.push(Field { name, value, kind, listed: false, never_indexed });
    }

    /// RFC 9113, 8.3: before all others, each at most once, none but those defined.
    fn note_pseudo(&mut self, name: Name, value: Span) {
        let place = match name {
            Name::Method => &mut self.pseudo.method,
            Name::Scheme => &mut self.pseudo.scheme,
            Name::Authority => &mut self.pseudo.authority,
            Name::Path => &mut self.pseudo.path,
            Name::Status => &mut self.pseudo.status,
            Name::Protocol => &mut self.pseudo.protocol,
            _ => return self.set_fault("unknown pseudo-field"),
        };
        let is_first = place.is_none();
        *place = Some(value);
        if !is_first {
            self.set_fault("repeated pseudo-field");
        }
        if !self.fields.is_empty() {
            self.set_fault("pseudo-field behind a field");
        }
    }

    fn set_fault(&mut self, reason: &'static str) {
        self.fault = self.fault.or(Some(reason));
    }

    /// Called when the block is over. Joins several `cookie` fields into one, at the end (RFC 9113, 8.2.3).
    pub(super) fn finish(&mut self) {
        if self.cookies.count < 2 {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"cookie: ");
        let value = self.bytes.len();
        for field in &mut self.fields[self.cookies.first..] {
            if field.name.of(&self.bytes) != b"cookie" {
                continue;
            }
            field.kind = FieldKind::Crumb;
            // One without a value would leave white space at an end.
            if field.value.is_empty() {
                continue;
            }
            if self.bytes.len() > value {
                self.bytes.extend_from_slice(b"; ");
            }
            self.bytes.extend_from_within(field.value.start as usize..field.value.end as usize);
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.fields.push(Field {
            name: Span::new(start, start + 6),
            value: Span::new(start + 8, self.bytes.len() - 2),
            kind: FieldKind::EndToEnd,
            listed: false,
            never_indexed: self.cookies.never_indexed,
        });
    }
}

/// Without the white space around it, which in a line is none of the value.
fn trimmed(value: Span, bytes: &[u8]) -> Span {
    let text = value.of(bytes);
    let before = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let start = value.start as usize + before;
    Span::new(start, start + trim(text).len())
}

//! The two gRPC messages of `Append`, read and written by hand: the body is not copied, and one
//! set of limits serves HTTP and gRPC.
//!
//! The message definitions are in `proto/penstock/v1/ingest.proto`.

use std::ops::Range;

use penstock_model::{AckLevel, Code, Coding, Outcome, Refusal};

pub(crate) const VARINT: u64 = 0;
pub(crate) const FIXED64: u64 = 1;
pub(crate) const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// An `AppendRequest`. Of a field that comes more than once the last one holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendMessage {
    /// `None` if absent or empty.
    pub token: Option<String>,
    pub coding: Coding,
    /// Where the body lies in the message.
    pub body: Range<usize>,
    /// `sent_at_unix_ms`, in microseconds.
    pub sent_at_us: Option<i64>,
    /// `None` leaves the level to the server's setting.
    pub ack: Option<AckLevel>,
}

/// Reads an `AppendRequest`. Unknown fields are skipped.
///
/// Errors: [`Code::InvalidMessage`] if it is truncated, overflows, has a field of another wire type
/// or an ack level that this server doesn't know; [`Code::UnsupportedCoding`] for an unknown coding.
pub fn decode_append_request(message: &[u8]) -> Result<AppendMessage, Refusal> {
    let mut reader = Reader { message, at: 0 };
    let mut request = AppendMessage::default();
    while reader.at < message.len() {
        let (field, wire_type) = reader.tag()?;
        let expected = match field {
            1 | 3 => LENGTH_DELIMITED,
            2 | 4 | 5 => VARINT,
            _ => {
                reader.skip(wire_type)?;
                continue;
            }
        };
        if wire_type != expected {
            return invalid("field of another wire type");
        }
        match field {
            1 => {
                let Ok(token) = std::str::from_utf8(&message[reader.bytes()?]) else {
                    return invalid("token is not UTF-8");
                };
                request.token = (!token.is_empty()).then(|| token.to_owned());
            }
            2 => {
                let number = reader.varint()?;
                request.coding = u8::try_from(number)
                    .ok()
                    .filter(|number| *number <= Coding::Zstd as u8)
                    .and_then(Coding::from_number)
                    .ok_or_else(|| Refusal::new(Code::UnsupportedCoding, "unknown number"))?;
            }
            3 => request.body = reader.bytes()?,
            4 => {
                let milliseconds = reader.varint()?.cast_signed();
                request.sent_at_us = Some(milliseconds.saturating_mul(1_000));
            }
            _ => {
                let number = reader.varint()?;
                let level = u8::try_from(number).ok().and_then(AckLevel::from_number);
                if level.is_none() && number != 0 {
                    // A guess could promise less than the client asked for (ACK-1).
                    return invalid("unknown ack level");
                }
                request.ack = level;
            }
        }
    }
    Ok(request)
}

fn invalid<T>(detail: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Code::InvalidMessage, detail))
}

/// Goes forward through one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) at: usize,
}

impl Reader<'_> {
    /// Reads what a field begins with: its number and its wire type.
    pub(crate) fn tag(&mut self) -> Result<(u64, u64), Refusal> {
        let tag = self.varint()?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        if field == 0 || field > 0x1fff_ffff {
            return invalid("field number out of range");
        }
        Ok((field, wire_type))
    }

    /// Reads a number of up to ten bytes.
    pub(crate) fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.message.get(self.at) else {
                return invalid("truncated");
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return invalid("number overflows 64 bits");
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        invalid("number longer than ten bytes")
    }

    /// Reads a length and passes as many bytes.
    pub(crate) fn bytes(&mut self) -> Result<Range<usize>, Refusal> {
        let len = self.varint()?;
        self.pass(len)
    }

    pub(crate) fn pass(&mut self, len: u64) -> Result<Range<usize>, Refusal> {
        let left = self.message.len() - self.at;
        match usize::try_from(len) {
            Ok(len) if len <= left => {
                let start = self.at;
                self.at += len;
                Ok(start..self.at)
            }
            _ => invalid("truncated"),
        }
    }

    pub(crate) fn skip(&mut self, wire_type: u64) -> Result<(), Refusal> {
        match wire_type {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.pass(8).map(|_| ()),
            LENGTH_DELIMITED => self.bytes().map(|_| ()),
            FIXED32 => self.pass(4).map(|_| ()),
            // Groups left the language before its third version; 6 and 7 never meant anything.
            _ => invalid("unknown wire type"),
        }
    }
}

/// One event of an answer that was not plainly accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionRow<'a> {
    pub index: u32,
    pub outcome: Outcome,
    pub code: &'a str,
    pub detail: &'a str,
    pub uuid: &'a str,
}

/// Writes an `AppendResponse`.
pub fn encode_append_response(
    log_position: u64,
    reached: AckLevel,
    accepted: u32,
    duplicates: u32,
    exceptions: &[ExceptionRow<'_>],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    write_number(&mut out, 1, log_position);
    write_number(&mut out, 2, reached as u64);
    write_number(&mut out, 3, u64::from(accepted));
    write_number(&mut out, 4, u64::from(duplicates));
    let mut row = Vec::new();
    for exception in exceptions {
        row.clear();
        write_number(&mut row, 1, u64::from(exception.index));
        let outcome = match exception.outcome {
            Outcome::Accepted => 1,
            Outcome::Duplicate => 2,
            Outcome::Rejected(_) => 3,
        };
        write_number(&mut row, 2, outcome);
        write_bytes(&mut row, 3, exception.code.as_bytes());
        write_bytes(&mut row, 4, exception.detail.as_bytes());
        write_bytes(&mut row, 5, exception.uuid.as_bytes());
        // A row is never empty: its outcome is not zero.
        write_bytes(&mut out, 5, &row);
    }
    out
}

/// Writes a number field; zero is what an absent field reads as and is left out.
pub(crate) fn write_number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        write_varint(out, field << 3 | VARINT);
        write_varint(out, value);
    }
}

/// Writes a string, bytes or message field; an empty one is left out.
pub(crate) fn write_bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    if !value.is_empty() {
        write_varint(out, field << 3 | LENGTH_DELIMITED);
        write_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the low seven bits")]
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(value as u8);
}

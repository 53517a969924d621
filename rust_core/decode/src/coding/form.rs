//! Forms (`application/x-www-form-urlencoded`): `data=…&compression=…`, from a body or a query.

use penstock_model::{Code, Coding, Refusal};

use crate::utf8::looks_like_json;

/// As far into a body as a parameter must begin that tells a form (`posthog-protocol.md` §2.2).
const HEAD_BYTES: usize = 128;

/// Parameters that forms of SDKs have.
const TELLING: [&[u8]; 4] = [b"data=", b"compression=", b"_=", b"ip="];

/// What a form has besides its data.
pub(super) const LEAST_BYTES: usize = b"data=".len();

/// Encoded bytes from which the first character of a value is known: a byte order mark and a few
/// spaces.
const FIRST_BYTES: usize = 48;

/// What a form says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Percent escapes undone.
    pub(super) data: Vec<u8>,
    /// `None` if nothing, or nothing known, is said of it.
    pub(super) coding: Option<Coding>,
}

/// Whether a parameter that SDKs send begins in the first bytes. JSON must be ruled out before.
pub(super) fn looks_like_form(bytes: &[u8]) -> bool {
    let begins = |rest: &[u8]| TELLING.iter().any(|name| rest.starts_with(name));
    let mut ends = memchr::memchr_iter(b'&', &bytes[..bytes.len().min(HEAD_BYTES)]);
    begins(bytes) || ends.any(|end| begins(&bytes[end + 1..]))
}

/// Reads a form; the first of duplicates counts.
///
/// Errors: [`Code::MissingPayload`] if it has no `data`.
pub(super) fn read(form: &[u8]) -> Result<Form, Refusal> {
    let mut data = None;
    let mut coding = None;
    let mut from = 0;
    while from < form.len() && (data.is_none() || coding.is_none()) {
        let rest = &form[from..];
        let len = memchr::memchr(b'&', rest).unwrap_or(rest.len());
        let parameter = &rest[..len];
        if let Some(value) = parameter.strip_prefix(b"data=") {
            data = data.or((!value.is_empty()).then_some(value));
        } else if let Some(value) = parameter.strip_prefix(b"compression=") {
            coding = coding.or_else(|| coding_named(value));
        }
        from += len + 1;
    }
    let Some(data) = data else {
        return Err(Refusal::new(Code::MissingPayload, "the form has no data"));
    };
    Ok(Form {
        data: decode_value(data),
        coding,
    })
}

/// The coding that a `compression` parameter names (`posthog-protocol.md` §1.5).
fn coding_named(value: &[u8]) -> Option<Coding> {
    let names: [(&[u8], Coding); 9] = [
        (b"gzip", Coding::Gzip),
        (b"gzip-js", Coding::Gzip),
        (b"base64", Coding::Base64),
        (b"b64", Coding::Base64),
        (b"lz64", Coding::Lz64),
        (b"lz-string", Coding::Lz64),
        (b"deflate", Coding::Deflate),
        (b"br", Coding::Brotli),
        (b"zstd", Coding::Zstd),
    ];
    let mut named = names.into_iter();
    let found = named.find(|(name, _)| value.eq_ignore_ascii_case(name));
    found.map(|(_, coding)| coding)
}

/// Undoes the percent escapes of a value. `+` is a space in JSON, and itself in base64, whose
/// writers often forget to escape it.
fn decode_value(value: &[u8]) -> Vec<u8> {
    let first = unescape(&value[..value.len().min(FIRST_BYTES)], true);
    unescape(value, looks_like_json(&first))
}

/// A percent sign without two digits behind it stays as it is.
fn unescape(value: &[u8], plus_is_space: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memchr2(b'%', b'+', rest) {
        out.extend_from_slice(&rest[..at]);
        let (byte, len) = match &rest[at..] {
            [b'+', ..] if plus_is_space => (b' ', 1),
            [b'%', high, low, ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (b'%', 1),
            },
            _ => (rest[at], 1),
        };
        out.push(byte);
        rest = &rest[at + len..];
    }
    out.extend_from_slice(rest);
    out
}

fn digit(letter: u8) -> Option<u8> {
    let value = char::from(letter).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_of(form: &str) -> String {
        String::from_utf8(read(form.as_bytes()).unwrap().data).unwrap()
    }

    #[test]
    fn forms_are_told_by_what_sdks_send_at_their_start() {
        let far = |bytes: usize| format!("x={}&data=1", "y".repeat(bytes - "x=".len()));
        for form in [
            "data=e30",
            "data=",
            "ip=1&data=e30",
            "_=1&x=2",
            "ver=1&compression=x",
        ] {
            assert!(looks_like_form(form.as_bytes()), "{form}");
        }
        for other in ["", "data", "dat=1", "xdata=1", "e30=", "a=1&b=2", "&"] {
            assert!(!looks_like_form(other.as_bytes()), "{other}");
        }
        assert!(looks_like_form(far(127).as_bytes()));
        assert!(!looks_like_form(far(128).as_bytes()));
    }

    #[test]
    fn escapes_are_undone_and_bad_ones_stay() {
        for (form, data) in [
            ("data=%7B%22a%22%3A+1%7d", r#"{"a": 1}"#),
            ("data={\"a\":\"1+1%2B1\"}", r#"{"a":"1 1+1"}"#),
            ("data=+%0A[1+]", " \n[1 ]"),
            ("data=%EF%BB%BF%7B+", "\u{feff}{ "),
            // Base64 keeps its plus.
            ("data=ab%2B+/w%3D%3D", "ab++/w=="),
            ("data=%", "%"),
            ("data=%4", "%4"),
            ("data=%zz%41", "%zzA"),
            ("data=&data=1&data=2", "1"),
            ("x=0&&data=1&y", "1"),
        ] {
            assert_eq!(data_of(form), data, "{form}");
        }
    }

    #[test]
    fn a_form_may_say_how_its_data_is_coded() {
        for (form, coding) in [
            ("data=1", None),
            ("data=1&compression=", None),
            ("data=1&compression=rot13", None),
            ("data=1&compression=LZ64", Some(Coding::Lz64)),
            (
                "compression=base64&data=1&compression=gzip",
                Some(Coding::Base64),
            ),
        ] {
            assert_eq!(read(form.as_bytes()).unwrap().coding, coding, "{form}");
        }
    }

    #[test]
    fn a_form_without_data_is_no_payload() {
        for form in ["compression=gzip", "data=", "data=&_=1", "xdata=1"] {
            assert_eq!(
                read(form.as_bytes()).unwrap_err().code,
                Code::MissingPayload
            );
        }
    }
}

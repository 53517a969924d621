//! Writes JSON: strings with their escapes, and bytes as text.

use std::fmt::Write as _;

use base64::engine::general_purpose::STANDARD;
use base64::{Engine as _, encoded_len};

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What a string of base64 begins with, so that it is told apart from a text (RFC 2397).
const DATA_URL: &str = "data:application/octet-stream;base64,";

/// Appends a string literal.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(needs_escape) {
        // What needs an escape is ASCII, so both cuts are between characters.
        let (before, special) = rest.split_at(at);
        let (special, after) = special.split_at(1);
        out.push_str(before);
        push_escape(out, special.bytes().next().unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out.push('"');
}

fn needs_escape(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\')
}

fn push_escape(out: &mut String, byte: u8) {
    let short = match byte {
        b'"' => '"',
        b'\\' => '\\',
        b'\n' => 'n',
        b'\r' => 'r',
        b'\t' => 't',
        _ => {
            out.push_str("\\u00");
            push_hex(out, &[byte]);
            return;
        }
    };
    out.push('\\');
    out.push(short);
}

/// Bytes of the literal of a text.
pub(crate) fn string_len(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..=0x1f => 5,
        _ => 0,
    });
    text.len() + escapes.sum::<usize>() + 2
}

/// Appends `,` where something stands before, then a key.
pub(crate) fn push_key(out: &mut String, key: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_string(out, key);
    out.push(':');
}

/// Appends what needs no quotes.
pub(crate) fn push_display(out: &mut String, value: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(value);
    debug_assert!(written.is_ok(), "a String takes everything");
}

/// Appends bytes as two lower-case digits each.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.push(char::from(HEX_DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(HEX_DIGITS[usize::from(byte & 15)]));
    }
}

/// Appends a string literal that holds bytes as a `data:` URL.
pub(crate) fn push_data_url(out: &mut String, bytes: &[u8]) {
    out.push('"');
    out.push_str(DATA_URL);
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// Bytes of such a literal.
pub(crate) fn data_url_len(bytes: &[u8]) -> usize {
    // `None` past the address space, which no body reaches.
    encoded_len(bytes.len(), true).unwrap_or(usize::MAX - 64) + DATA_URL.len() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_mean_their_text_and_are_as_long_as_told() {
        let all: String = (0..=0x24f).filter_map(char::from_u32).collect();
        for text in ["", "a", "\"", "\\\"\n", "é\u{7f}🦔\u{2028}", &all] {
            let mut out = String::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
            assert_eq!(out.len(), string_len(text));
        }
    }

    #[test]
    fn bytes_become_base64_that_says_so() {
        for (bytes, base64) in [(&b""[..], ""), (b"\xff", "/w=="), (b"abc", "YWJj")] {
            let mut out = String::new();
            push_data_url(&mut out, bytes);
            assert_eq!(out, format!("\"{DATA_URL}{base64}\""));
            assert_eq!(out.len(), data_url_len(bytes));
        }
    }

    #[test]
    fn keys_are_parted_by_commas() {
        let mut out = String::from("{");
        push_key(&mut out, "a\"");
        out.push('1');
        push_key(&mut out, "b");
        assert_eq!(out, r#"{"a\"":1,"b":"#);
    }
}

//! Bytes to text: what stands before it, and repair where it is not UTF-8.

use penstock_model::{Code, Refusal};

const REPLACEMENT: &str = "\u{fffd}";

/// Length of the byte order mark that `bytes` begins with, 0 or 3.
pub(crate) fn byte_order_mark(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    }
}

/// Whether the first byte that is neither white space nor a byte order mark opens a JSON container.
pub(crate) fn looks_like_json(bytes: &[u8]) -> bool {
    matches!(
        bytes[byte_order_mark(bytes)..].trim_ascii_start().first(),
        Some(b'{' | b'[')
    )
}

/// Copies `bytes` with every part that is not UTF-8 replaced by U+FFFD.
///
/// Errors: [`Code::DecompressedTooLarge`] if the text would be longer than `max_bytes`; it is at
/// most three times as long as the bytes.
pub(crate) fn repair(bytes: &[u8], max_bytes: usize) -> Result<String, Refusal> {
    // Measured first: a buffer that grows on the way holds up to three texts at once.
    let len = repaired_len(bytes);
    if len > max_bytes {
        let detail = format!("more than {max_bytes} bytes once invalid UTF-8 is replaced");
        return Err(Refusal::new(Code::DecompressedTooLarge, detail));
    }
    let mut text = String::with_capacity(len);
    for chunk in bytes.utf8_chunks() {
        for part in repaired(&chunk) {
            text.push_str(part);
        }
    }
    Ok(text)
}

/// Length of `bytes` once they are text.
pub(crate) fn repaired_len(bytes: &[u8]) -> usize {
    let parts = bytes.utf8_chunks().flat_map(|chunk| repaired(&chunk));
    parts.map(str::len).sum()
}

/// What of a chunk is kept and what replaces the rest.
fn repaired<'a>(chunk: &std::str::Utf8Chunk<'a>) -> [&'a str; 2] {
    [
        chunk.valid(),
        if chunk.invalid().is_empty() {
            ""
        } else {
            REPLACEMENT
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repair_replaces_as_the_standard_library_does() {
        for bytes in [
            &b"a\xffb\xc3"[..],
            b"\xe2\x82",
            b"\xed\xa0\x80",
            b"plain",
            b"",
        ] {
            let repaired = repair(bytes, 100).unwrap();
            assert_eq!(repaired, String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn repair_stops_at_the_limit() {
        assert_eq!(repair(&[0xff; 10], 30).unwrap().len(), 30);
        assert_eq!(
            repair(&[0xff; 10], 29).unwrap_err().code,
            Code::DecompressedTooLarge
        );
    }

    #[test]
    fn json_is_recognised_behind_a_mark_and_white_space() {
        assert!(looks_like_json(b"\xef\xbb\xbf \n{}"));
        assert!(looks_like_json(b" ["));
        assert!(!looks_like_json(b"\x1f\x8b"));
        assert!(!looks_like_json(b""));
    }
}

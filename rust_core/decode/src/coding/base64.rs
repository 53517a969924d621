//! Base64, as strict as it must be to be read and no more: without padding, with line breaks, in
//! the alphabet of URLs, or with the spaces that forms make of `+`.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// As far as letters are looked at before a decision (`posthog-protocol.md` §2.2).
const HEAD_BYTES: usize = 128;

static ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether the first bytes are such letters, and there are any. Spaces are letters that a form, or a
/// proxy that wrote it anew, has made of `+`.
pub(super) fn looks_like_base64(bytes: &[u8]) -> bool {
    let is_letter = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'+' | b' ' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n'
            )
    };
    !bytes.is_empty() && bytes.iter().take(HEAD_BYTES).all(is_letter)
}

/// Decodes a text; `None` if it is no base64.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    // The second way is for the few that need it: it copies.
    let decoded = ENGINE.decode(text);
    decoded.or_else(|_| ENGINE.decode(tidy(text))).ok()
}

fn tidy(text: &[u8]) -> Vec<u8> {
    let letters = text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let letters = letters.map(|byte| match byte {
        b'-' | b' ' => b'+',
        b'_' => b'/',
        other => *other,
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_writing_of_the_same_bytes_is_read() {
        for text in [
            "+/+/ew==",
            "+/+/ew=",
            "+/+/ew",
            "-_-_ew==",
            " / /ew==",
            "+/+/\r\new==\n",
            // Bits that no byte needs.
            "+/+/ex==",
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap(), b"\xfb\xff\xbf{", "{text}");
        }
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_no_base64_is_none() {
        for text in ["{", "a", "abcde", "ab=c", "====", "abc\0", "ab%3D"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn letters_are_looked_at_up_to_the_limit() {
        let head = |letters: usize| format!("{}{{", "a".repeat(letters));
        assert!(looks_like_base64(head(128).as_bytes()));
        assert!(!looks_like_base64(head(127).as_bytes()));
        assert!(!looks_like_base64(b""));
        assert!(looks_like_base64(b"e30=\n"));
    }
}

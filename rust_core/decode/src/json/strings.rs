//! What strings mean: escapes undone, lone surrogates replaced.

/// What was put in place of characters that can't be stored as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) lone_surrogate: bool,
    pub(crate) nul: bool,
}

const REPLACEMENT: char = '\u{fffd}';

/// A part of `text`. The places come from the scanner, which stops at ASCII characters only.
#[expect(
    clippy::string_slice,
    reason = "the scanner cuts at ASCII characters; else a bug"
)]
#[inline]
pub(crate) fn slice(text: &str, start: usize, end: usize) -> &str {
    &text[start..end]
}

/// The number of the `\uXXXX` that `text` begins with.
pub(super) fn unicode_unit(text: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = text.first_chunk::<6>()? else {
        return None;
    };
    let mut unit = 0;
    for digit in digits {
        let value = char::from(*digit).to_digit(16)?;
        unit = unit << 4 | u16::try_from(value).ok()?;
    }
    Some(unit)
}

/// The character that the escape at the start of `escape` stands for and the escape's length.
/// `None` stands for a lone surrogate. The scanner has checked the escape.
fn read_escape(escape: &[u8]) -> (Option<char>, usize) {
    let plain = match escape.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            // Only a text that was cut inside of an escape gets here.
            let Some(unit) = unicode_unit(escape) else {
                return (None, escape.len());
            };
            if let 0xd800..=0xdbff = unit
                && let Some(low @ 0xdc00..=0xdfff) = escape.get(6..).and_then(unicode_unit)
            {
                let code = 0x1_0000 + ((u32::from(unit) - 0xd800) << 10) + u32::from(low) - 0xdc00;
                return (char::from_u32(code), 12);
            }
            return (char::from_u32(u32::from(unit)), 6);
        }
        Some(&byte) => char::from(byte),
        None => return (None, 1),
    };
    (Some(plain), 2)
}

/// Appends what the inside of a string literal means to `out`. Lone surrogates become U+FFFD, and
/// so do NUL characters if `replace_nul`. The scanner has checked the literal.
pub(crate) fn unescape(literal: &str, replace_nul: bool, out: &mut String) -> Replaced {
    let mut replaced = Replaced::default();
    let mut from = 0;
    while let Some(offset) = memchr::memchr(b'\\', &literal.as_bytes()[from..]) {
        let at = from + offset;
        out.push_str(slice(literal, from, at));
        let (character, length) = read_escape(&literal.as_bytes()[at..]);
        out.push(match character {
            None => {
                replaced.lone_surrogate = true;
                REPLACEMENT
            }
            Some('\0') if replace_nul => {
                replaced.nul = true;
                REPLACEMENT
            }
            Some(character) => character,
        });
        from = at + length;
    }
    out.push_str(slice(literal, from, literal.len()));
    replaced
}

/// Appends a JSON text to `out` with every lone surrogate escape replaced by the escape of U+FFFD,
/// which is as long. Tells whether there was one.
pub(crate) fn replace_lone_surrogates(json: &str, out: &mut String) -> bool {
    let mut found = false;
    let mut from = 0;
    let mut kept = 0;
    while let Some(offset) = memchr::memchr(b'\\', &json.as_bytes()[from..]) {
        let at = from + offset;
        let (character, length) = read_escape(&json.as_bytes()[at..]);
        if character.is_none() {
            found = true;
            out.push_str(slice(json, kept, at));
            out.push_str("\\ufffd");
            kept = at + length;
        }
        from = at + length;
    }
    out.push_str(slice(json, kept, json.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_mean_what_rfc_8259_says() {
        let mut out = String::new();
        let replaced = unescape(r#"a\"\\\/\b\f\n\r\t\u00e9\uD83E\udd94z"#, false, &mut out);
        assert_eq!(out, "a\"\\/\u{8}\u{c}\n\r\té🦔z");
        assert_eq!(replaced, Replaced::default());
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        for (literal, meaning) in [
            (r"\ud83e", "\u{fffd}"),
            (r"x\udd94y", "x\u{fffd}y"),
            (r"\ud83e\ud83e\udd94", "\u{fffd}🦔"),
            (r"\ud83e\u0041", "\u{fffd}A"),
            (r"\ud83e\\udd94", "\u{fffd}\\udd94"),
        ] {
            let mut out = String::new();
            assert!(unescape(literal, false, &mut out).lone_surrogate);
            assert_eq!(out, meaning);

            let mut json = String::new();
            assert!(replace_lone_surrogates(
                &format!("\"{literal}\""),
                &mut json
            ));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), meaning);
        }
    }

    #[test]
    fn texts_without_lone_surrogates_stay_as_they_are() {
        let json = r#"{"a":"\\ud83e","b":"\ud83e\udd94","c":"é\u0000\n"}"#;
        let mut out = String::new();
        assert!(!replace_lone_surrogates(json, &mut out));
        assert_eq!(out, json);
    }

    #[test]
    fn nul_is_replaced_on_demand() {
        let mut out = String::new();
        assert!(unescape(r"a\u0000b", true, &mut out).nul);
        assert!(!unescape(r"a\u0000b", false, &mut out).nul);
        assert_eq!(out, "a\u{fffd}ba\0b");
    }
}

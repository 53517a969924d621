//! The id of the person: any JSON value, made text (`posthog-protocol.md` §3.4).

use crate::json::{Replaced, Value, replace_lone_surrogates, slice, unescape};

/// Longest id in code points; the rest is cut, as PostHog does.
pub(crate) const MAX_CODE_POINTS: usize = 200;

/// What was done to an id on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) replaced: Replaced,
    /// Code points that it had before it was cut.
    pub(crate) truncated: Option<usize>,
}

/// An id as text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// A place in the body.
    Slice(usize, usize),
    /// A text of its own.
    Owned(String),
}

/// Makes the text of an id: strings keep it, other values become compact JSON.
///
/// `None` if the text is empty or white space only. `value` must be present and not null.
pub(crate) fn read(text: &str, value: Value, changes: &mut Changes) -> Option<Id> {
    if !value.is_string(text.as_bytes()) {
        let mut out = String::new();
        let json = slice(text, value.start(), value.end());
        // What lies far behind the cut is only counted: an escape is at most six bytes a code point.
        let (json, code_points) = compact(json, MAX_CODE_POINTS * 8);
        changes.replaced.lone_surrogate |= replace_lone_surrogates(&json, &mut out);
        let end = cut(&out, || code_points, changes);
        out.truncate(end);
        return Some(Id::Owned(out));
    }
    let start = value.start() + 1;
    let literal = slice(text, start, value.end() - 1);
    if !value.escaped() {
        if literal.trim().is_empty() {
            return None;
        }
        return Some(Id::Slice(start, start + cut_text(literal, changes)));
    }
    let mut out = String::with_capacity(literal.len());
    let replaced = unescape(literal, true, &mut out);
    if out.trim().is_empty() {
        return None;
    }
    changes.replaced = replaced;
    let end = cut_text(&out, changes);
    out.truncate(end);
    Some(Id::Owned(out))
}

/// Makes the text of an id as [`read`] does, but without the white space around it, and whole.
pub(crate) fn read_trimmed(text: &str, value: Value, replaced: &mut Replaced) -> Option<Id> {
    let mut out = String::new();
    if !value.is_string(text.as_bytes()) {
        let (json, _) = compact(slice(text, value.start(), value.end()), usize::MAX);
        replaced.lone_surrogate |= replace_lone_surrogates(&json, &mut out);
        return Some(Id::Owned(out));
    }
    let start = value.start() + 1;
    let literal = slice(text, start, value.end() - 1);
    if !value.escaped() {
        let start = start + (literal.len() - literal.trim_start().len());
        let len = literal.trim().len();
        return (len > 0).then_some(Id::Slice(start, start + len));
    }
    *replaced = unescape(literal, true, &mut out);
    let trimmed = out.trim();
    (!trimmed.is_empty()).then(|| Id::Owned(trimmed.to_owned()))
}

fn cut_text(id: &str, changes: &mut Changes) -> usize {
    cut(id, || id.chars().count(), changes)
}

/// Where the first 200 code points of `id` end. `code_points` counts those of all, if it is longer.
fn cut(id: &str, code_points: impl Fn() -> usize, changes: &mut Changes) -> usize {
    // Code points are at most as many as bytes.
    if id.len() <= MAX_CODE_POINTS {
        return id.len();
    }
    match id.char_indices().nth(MAX_CODE_POINTS) {
        Some((end, _)) => {
            changes.truncated = Some(code_points());
            end
        }
        None => id.len(),
    }
}

/// Removes the white space between the tokens of a JSON text. Numbers and strings stay as written.
///
/// Gives about `max_bytes` of the beginning of a long one, and how many code points all of it has.
fn compact(json: &str, max_bytes: usize) -> (String, usize) {
    let mut out = String::new();
    let mut code_points = 0;
    let mut in_string = false;
    let mut escaped = false;
    for character in json.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            in_string = character == '"';
        }
        code_points += 1;
        if out.len() <= max_bytes {
            out.push(character);
        }
    }
    (out, code_points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Scanner;

    fn id_of(json: &str) -> (Option<String>, Changes) {
        let value = Scanner::new(json.as_bytes(), 0, 128).value(0).unwrap();
        let mut changes = Changes::default();
        let id = read(json, value, &mut changes).map(|id| match id {
            Id::Slice(start, end) => slice(json, start, end).to_owned(),
            Id::Owned(text) => text,
        });
        (id, changes)
    }

    #[test]
    fn any_value_becomes_text() {
        for (json, expected) in [
            (r#""user 1""#, "user 1"),
            (r#""  padded ""#, "  padded "),
            (r#""a\/b\u00e9""#, "a/bé"),
            ("23", "23"),
            ("-1.50e3", "-1.50e3"),
            ("true", "true"),
            ("false", "false"),
            ("[1, \"a b\",\n null]", r#"[1,"a b",null]"#),
            (r#"{ "a" : "x \" y" , "b":{} }"#, r#"{"a":"x \" y","b":{}}"#),
        ] {
            assert_eq!(
                id_of(json),
                (Some(expected.to_owned()), Changes::default()),
                "{json}"
            );
        }
    }

    fn trimmed_of(json: &str) -> Option<String> {
        let value = Scanner::new(json.as_bytes(), 0, 128).value(0).unwrap();
        match read_trimmed(json, value, &mut Replaced::default())? {
            Id::Slice(start, end) => Some(slice(json, start, end).to_owned()),
            Id::Owned(text) => Some(text),
        }
    }

    #[test]
    fn blank_ids_are_none() {
        for json in [r#""""#, r#""  ""#, r#""\t\n ""#, "\"\u{3000}\""] {
            assert_eq!(id_of(json).0, None, "{json}");
            assert_eq!(trimmed_of(json), None, "{json}");
        }
    }

    #[test]
    fn white_space_around_an_id_goes_where_that_is_asked_for() {
        let long = "é".repeat(300);
        let list = format!("[{}1]", "1,".repeat(2_000));
        for (json, expected) in [
            ("\" user 1\u{3000}\"".to_owned(), "user 1"),
            (r#""\t user\u00201 \n""#.to_owned(), "user 1"),
            (r#""a\u0000b""#.to_owned(), "a\u{fffd}b"),
            ("[1, 2]".to_owned(), "[1,2]"),
            (format!("\"{}{long}\"", " ".repeat(300)), long.as_str()),
            (format!("[{}1]", "1, ".repeat(2_000)), list.as_str()),
        ] {
            assert_eq!(trimmed_of(&json).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn nul_and_lone_surrogates_are_replaced() {
        let (id, changes) = id_of(r#""a\u0000b\ud800""#);
        assert_eq!(id.unwrap(), "a\u{fffd}b\u{fffd}");
        assert_eq!(
            changes.replaced,
            Replaced {
                lone_surrogate: true,
                nul: true
            }
        );
        let (id, changes) = id_of(r#"["\ud800"]"#);
        assert_eq!(id.unwrap(), r#"["\ufffd"]"#);
        assert!(changes.replaced.lone_surrogate);
    }

    #[test]
    fn two_hundred_code_points_pass_and_one_more_is_cut() {
        for letter in ["a", "é", "🦔"] {
            let full = letter.repeat(200);
            assert_eq!(
                id_of(&format!("\"{full}\"")),
                (Some(full.clone()), Changes::default())
            );
            let (id, changes) = id_of(&format!("\"{full}{letter}\""));
            assert_eq!((id.unwrap(), changes.truncated), (full, Some(201)));
        }
        let (id, changes) = id_of(&format!("\"{}\"", r"\u00e9".repeat(201)));
        assert_eq!(
            (id.unwrap(), changes.truncated),
            ("é".repeat(200), Some(201))
        );
        let (id, changes) = id_of(&format!("[{}1]", "1, ".repeat(10_000)));
        // Without the white space: two for each, and the rest.
        assert_eq!((id.unwrap().len(), changes.truncated), (200, Some(20_003)));
    }
}

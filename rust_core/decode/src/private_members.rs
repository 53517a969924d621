//! Takes members out of a JSON text by their names, however deep they stand.
//!
//! The rest of the text stays byte for byte. Whoever looks for such a member finds none.

use crate::json::unescape;

/// Whether the text has a member with one of the names. Cost: a pass over its strings.
pub(crate) fn has_any(text: &[u8], names: &[&str]) -> bool {
    find(text, 0, names).is_some()
}

/// Where a member of the name begins and its value ends.
struct Found {
    key: usize,
    end: usize,
}

/// Removes the members from a JSON text, in place.
pub(crate) fn remove(text: &mut Vec<u8>, names: &[&str]) {
    let (mut read, mut written) = (0, 0);
    while let Some(found) = find(text, read, names) {
        text.copy_within(read..found.key, written);
        written += found.key - read;
        read = found.end;
        // One comma goes with it: the one before, else the one behind.
        written = trimmed_end(&text[..written]);
        if text[..written].ends_with(b",") {
            written -= 1;
        } else {
            let next = skip_spaces(text, read);
            if text.get(next) == Some(&b',') {
                read = next + 1;
            }
        }
    }
    let end = text.len();
    text.copy_within(read..end, written);
    text.truncate(written + end - read);
}

/// The first member of a name at or behind `from`, which is outside of strings. A string with a
/// colon behind it is a key, wherever it stands.
fn find(text: &[u8], from: usize, names: &[&str]) -> Option<Found> {
    let mut at = from;
    loop {
        let key = at + memchr::memchr(b'"', text.get(at..)?)?;
        let end = string_end(text, key);
        at = end;
        let literal = text.get(key + 1..end.saturating_sub(1)).unwrap_or_default();
        if !is_name(literal, names) {
            continue;
        }
        let colon = skip_spaces(text, end);
        if text.get(colon) == Some(&b':') {
            let value = skip_spaces(text, colon + 1);
            let end = value_end(text, value);
            return Some(Found { key, end });
        }
    }
}

fn is_name(literal: &[u8], names: &[&str]) -> bool {
    let is = |found: &[u8]| names.iter().any(|name| name.as_bytes() == found);
    if !literal.contains(&b'\\') {
        return is(literal);
    }
    // Each of its bytes may be written as `\u0024`.
    let longest = names.iter().map(|name| 6 * name.len()).max();
    if longest.is_none_or(|longest| literal.len() > longest) {
        return false;
    }
    let Ok(literal) = std::str::from_utf8(literal) else {
        return false;
    };
    let mut found = String::new();
    unescape(literal, false, &mut found);
    is(found.as_bytes())
}

/// Behind the quote that ends the string whose first quote is at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(offset) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += offset;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// Behind the value that begins at `start`.
fn value_end(text: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + depth,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn skip_spaces(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.len() - rest.trim_ascii_start().len()
}

fn trimmed_end(text: &[u8]) -> usize {
    text.trim_ascii_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 1] = ["$ip"];

    fn removed(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        remove(&mut bytes, &NAMES);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn members_go_out_and_the_rest_stays_byte_for_byte() {
        for (text, expected) in [
            (r#"{"$ip":"1.2.3.4"}"#, "{}"),
            (r#"{ "$ip" : "1.2.3.4" }"#, "{ }"),
            (r#"{"$ip":1,"a": 2}"#, r#"{"a": 2}"#),
            (r#"{"a": 1 , "$ip":2}"#, r#"{"a": 1 }"#),
            (r#"{"a":1,"$ip":2 , "b":3}"#, r#"{"a":1, "b":3}"#),
            (r#"{"$ip":1,"$ip":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"a":3,"$ip":1,"$ip":2}"#, r#"{"a":3}"#),
            (r#"{"$ip":1,"a":3,"$ip":2}"#, r#"{"a":3}"#),
            (r#"{"$ip":1,"$ip":2}"#, "{}"),
            // Whatever its value is.
            (r#"{"$ip":null,"a":1}"#, r#"{"a":1}"#),
            (r#"{"$ip":-1.5e3,"a":1}"#, r#"{"a":1}"#),
            (r#"{"$ip":[1,{"b":"]"}],"a":1}"#, r#"{"a":1}"#),
            (r#"{"$ip":{"$ip":"}"},"a":1}"#, r#"{"a":1}"#),
            (r#"{"$ip":"a\\\"b,}","a":1}"#, r#"{"a":1}"#),
            (r#"{"$ip":[],"$ip":{},"a":1}"#, r#"{"a":1}"#),
            // However it is written, and however deep it is.
            (r#"{"\u0024ip":1}"#, "{}"),
            (r#"{"$\u0069\u0070":1,"a":1}"#, r#"{"a":1}"#),
            (r#"[[{"a":{"$ip":1}}],{"$ip":2}]"#, r#"[[{"a":{}}],{}]"#),
            // A byte order mark and white space stay.
            ("\u{feff} {\"$ip\":1} \n", "\u{feff} {} \n"),
        ] {
            assert_eq!(removed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_the_member_stays() {
        for text in [
            "",
            "{}",
            r#"{"ip":1,"$IP":2,"$ip ":3,"$$ip":4,"$ip_":5,"":6}"#,
            r#"["$ip","1.2.3.4"]"#,
            r#"{"a":"$ip","b":["$ip"]}"#,
            r#"{"a":"\"$ip\":1","b":2}"#,
            r#"{"a":"{\"$ip\":\"1.2.3.4\"}"}"#,
            r#"{"\\u0024ip":1}"#,
            r#"{"\ud800ip":1}"#,
        ] {
            assert!(!has_any(text.as_bytes(), &NAMES), "{text}");
            assert_eq!(removed(text), text);
        }
    }

    #[test]
    fn members_of_several_names_go_out() {
        let mut text = br#"{"$ip":1,"a":{"b":2,"\u0062":3},"$set":{"$ip":4}}"#.to_vec();
        remove(&mut text, &["b", "$ip"]);
        assert_eq!(text, br#"{"a":{},"$set":{}}"#);
    }

    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                members.remove("$ip");
                members.values_mut().for_each(strip);
            }
            serde_json::Value::Array(elements) => elements.iter_mut().for_each(strip),
            _ => {}
        }
    }

    fn documents() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let key = prop::sample::select(vec!["$ip", "\\u0024ip", "a", "$i", "q\\\"$ip", "é"]);
        let space = prop::sample::select(vec!["", " ", "\n\t"]);
        let scalar = prop::sample::select(vec![
            "1",
            "-0.5e1",
            "null",
            "true",
            r#""""#,
            r#""$ip""#,
            r#""a\\\"}],:{[""#,
            "[]",
            "{}",
        ]);
        scalar
            .prop_map(str::to_owned)
            .prop_recursive(5, 40, 5, move |inner| {
                let spaced = (space.clone(), inner.clone())
                    .prop_map(|(space, value)| format!("{space}{value}{space}"));
                let member = (space.clone(), key.clone(), space.clone(), spaced.clone()).prop_map(
                    |(before, key, after, value)| format!("{before}\"{key}\"{after}:{value}"),
                );
                prop_oneof![
                    prop::collection::vec(spaced, 0..5)
                        .prop_map(|all| format!("[{}]", all.join(","))),
                    prop::collection::vec(member, 0..6)
                        .prop_map(|all| format!("{{{}}}", all.join(","))),
                ]
            })
    }

    proptest::proptest! {
        /// `serde_json` says what should be left.
        #[test]
        fn what_is_left_means_the_same_without_the_members(text in documents()) {
            let mut expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            strip(&mut expected);
            let left = removed(&text);
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&left).unwrap(), expected);
            proptest::prop_assert!(!has_any(left.as_bytes(), &NAMES));
        }

        /// It is JSON whenever this is called; but no bytes make it panic.
        #[test]
        fn no_bytes_are_too_much(text in "[\\[\\]{}:,\"\\\\ $ipu0]{0,40}") {
            let mut bytes = text.into_bytes();
            let before = bytes.len();
            remove(&mut bytes, &NAMES);
            proptest::prop_assert!(bytes.len() <= before);
        }
    }
}

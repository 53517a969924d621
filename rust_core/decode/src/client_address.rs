//! Takes the client's address out of a body, for projects that don't store it.
//!
//! SDKs put it into `properties` as `$ip`. What goes is every member of that name, however deep and
//! in whichever event, also of refused ones: whoever looks for an address in the log or in a table
//! finds none. The rest of the text stays byte for byte.

use penstock_model::{Batch, BatchText, BodyForm, Coding, Payload, Refusal, RequestContext};

use crate::json::unescape;
use crate::request::{Workspace, decode_with_answer, read_bytes};

const MEMBER: &[u8] = b"$ip";

/// Each of its bytes may be written as `\u0024`.
const MAX_LITERAL_BYTES: usize = 6 * MEMBER.len();

/// Whether the text of a batch has the client's address in it. Cost: a pass over its strings.
pub fn names_client_address(batch: &Batch) -> bool {
    match &batch.text {
        BatchText::Received(text) => find(text.as_slice(), 0).is_some(),
        BatchText::Decoded(text) => find(text, 0).is_some(),
    }
}

/// Makes a payload anew without the client's address, and decodes that.
///
/// `batch` and `answer` are what the payload as it came was decoded to. The new payload is plain
/// JSON, and `context` then says so; of a body of another form than events it is the events that
/// it became, whose outcomes and answer stay what they were.
///
/// Errors: as decoding; what was read once can only lack memory. Cost: as decoding again, and no
/// more memory than that.
pub fn decode_without_client_address(
    payload: &Payload,
    context: &mut RequestContext,
    batch: Batch,
    answer: Option<String>,
    workspace: &mut Workspace,
) -> Result<(Payload, Batch, Option<String>), Refusal> {
    if context.form == BodyForm::Events {
        // Not the batch's own text, in which invalid UTF-8 is replaced: events tell of that.
        drop(batch);
        let text = read_bytes(payload, context, &mut workspace.decompressors)?;
        let payload = without_members(text.into_owned());
        context.coding = Coding::Identity;
        let (batch, answer) = decode_with_answer(&payload, context, workspace)?;
        return Ok((payload, batch, answer));
    }
    let outcomes: Vec<_> = batch.events.iter().map(|event| event.outcome).collect();
    let text = match batch.text {
        BatchText::Decoded(text) => text,
        BatchText::Received(text) => text.as_slice().to_vec(),
    };
    let payload = without_members(text);
    context.form = BodyForm::Events;
    context.coding = Coding::Identity;
    context.sent_at_us = batch.sent_at_us;
    // What the form became is longer than the form, and has been judged by the form's limits.
    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let limits = &mut context.limits;
    limits.max_decompressed_bytes = limits.max_decompressed_bytes.max(bytes);
    limits.max_event_bytes = limits.max_event_bytes.max(bytes);
    let (mut batch, _) = decode_with_answer(&payload, context, workspace)?;
    for (event, outcome) in batch.events.iter_mut().zip(outcomes) {
        event.outcome = outcome;
    }
    Ok((payload, batch, answer))
}

fn without_members(mut text: Vec<u8>) -> Payload {
    remove(&mut text);
    text.shrink_to_fit();
    Payload::new(text)
}

/// Where a member of the name begins and its value ends.
struct Found {
    key: usize,
    end: usize,
}

/// Removes the members from a JSON text, in place.
fn remove(text: &mut Vec<u8>) {
    let (mut read, mut written) = (0, 0);
    while let Some(found) = find(text, read) {
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

/// The first member of the name at or behind `from`, which is outside of strings. A string with a
/// colon behind it is a key, wherever it stands.
fn find(text: &[u8], from: usize) -> Option<Found> {
    let mut at = from;
    loop {
        let key = at + memchr::memchr(b'"', text.get(at..)?)?;
        let end = string_end(text, key);
        at = end;
        if !is_name(text.get(key + 1..end.saturating_sub(1)).unwrap_or_default()) {
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

fn is_name(literal: &[u8]) -> bool {
    if literal.len() > MAX_LITERAL_BYTES || !literal.contains(&b'\\') {
        return literal == MEMBER;
    }
    let Ok(literal) = std::str::from_utf8(literal) else {
        return false;
    };
    let mut name = String::new();
    unescape(literal, false, &mut name);
    name.as_bytes() == MEMBER
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

    fn removed(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        remove(&mut bytes);
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
            assert!(find(text.as_bytes(), 0).is_none(), "{text}");
            assert_eq!(removed(text), text);
        }
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
            proptest::prop_assert!(find(left.as_bytes(), 0).is_none());
        }

        /// It is JSON whenever this is called; but no bytes make it panic.
        #[test]
        fn no_bytes_are_too_much(text in "[\\[\\]{}:,\"\\\\ $ipu0]{0,40}") {
            let mut bytes = text.into_bytes();
            let before = bytes.len();
            remove(&mut bytes);
            proptest::prop_assert!(bytes.len() <= before);
        }
    }
}

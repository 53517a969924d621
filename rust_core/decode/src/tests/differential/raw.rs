//! JSON by `serde_json`, one level at a time: where keys and values lie and what strings mean.
//!
//! The three differences between `serde_json` and our reader are here, each in one function.

use serde_json::value::RawValue;

/// One member of an object; duplicates are members too.
pub(super) struct Member<'a> {
    pub(super) name: String,
    pub(super) key: &'a RawValue,
    pub(super) value: &'a RawValue,
}

/// Takes one value off the front of a text that is known to be JSON.
fn take<'a>(rest: &mut &'a str) -> &'a RawValue {
    let mut values = serde_json::Deserializer::from_str(rest).into_iter();
    let value = values.next().unwrap().unwrap();
    let (_, after) = rest.split_at(values.byte_offset());
    *rest = after.trim_start();
    value
}

pub(super) fn members(object: &RawValue) -> Vec<Member<'_>> {
    let mut members = Vec::new();
    let mut rest = object.get().strip_prefix('{').unwrap().trim_start();
    while !rest.starts_with('}') {
        let key = take(&mut rest);
        rest = rest.strip_prefix(':').unwrap();
        let value = take(&mut rest);
        rest = rest.strip_prefix(',').unwrap_or(rest);
        members.push(Member {
            name: serde_json::from_str(key.get()).unwrap(),
            key,
            value,
        });
    }
    members
}

pub(super) fn members_if_object(value: Option<&RawValue>) -> Vec<Member<'_>> {
    value
        .filter(|value| kind(Some(value)) == b'{')
        .map(members)
        .unwrap_or_default()
}

pub(super) fn elements(array: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(array.get()).unwrap()
}

/// Of several spellings or duplicates the last one counts.
pub(super) fn last<'a>(members: &[Member<'a>], names: &[&str]) -> Option<&'a RawValue> {
    let named = |member: &&Member<'_>| names.contains(&member.name.as_str());
    members.iter().rfind(named).map(|member| member.value)
}

/// The first byte, 0 if absent.
pub(super) fn kind(value: Option<&RawValue>) -> u8 {
    value.map_or(0, |value| value.get().as_bytes()[0])
}

pub(super) fn is_null(value: Option<&RawValue>) -> bool {
    matches!(kind(value), 0 | b'n')
}

/// Difference to `serde_json` 1: a field of a wrong type reads as absent or refuses its event.
pub(super) fn string(value: Option<&RawValue>) -> Option<String> {
    value
        .filter(|value| kind(Some(value)) == b'"')
        .map(|value| serde_json::from_str(value.get()).unwrap())
}

/// Difference 2: lone surrogates read as U+FFFD. Its escape is as long, so all places stay.
pub(super) fn replace_lone_surrogates(text: &str) -> String {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let all_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        all_digits.then(|| u16::from_str_radix(digits, 16).unwrap())
    };
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while at < out.len() {
        at += match (out[at], unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff)) => {
                out[at..at + 6].copy_from_slice(b"\\ufffd");
                6
            }
            (b'\\', _) => 2,
            _ => 1,
        };
    }
    String::from_utf8(out).unwrap()
}

/// Difference 3: the limit of depth is ours, and no reason to refuse what is beside it.
pub(super) fn depth(json: &str) -> u32 {
    let (mut open, mut deepest, mut in_string) = (0, 0, false);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !in_string => open -= 1,
            _ => {}
        }
    }
    deepest
}

/// A value without the white space between its tokens.
pub(super) fn compact(json: &str) -> String {
    // Odd pieces stand inside of quotes, once quotes that are escaped are out of the way.
    let hidden = json.replace("\\\\", "\u{e000}").replace("\\\"", "\u{e001}");
    let pieces = hidden
        .split('"')
        .enumerate()
        .map(|(index, piece)| match index % 2 {
            0 => piece.split_ascii_whitespace().collect(),
            _ => piece.to_owned(),
        });
    let compact = pieces.collect::<Vec<_>>().join("\"");
    compact
        .replace('\u{e001}', "\\\"")
        .replace('\u{e000}', "\\\\")
}

/// Members as triples: of an object under one of `keys` each member by itself, else the whole.
pub(super) fn flatten(properties: &str, keys: &[&str]) -> Vec<[String; 3]> {
    let mut flat = Vec::new();
    for member in members(serde_json::from_str(properties).unwrap()) {
        if keys.contains(&member.name.as_str()) {
            for inner in members(member.value) {
                flat.push([
                    member.name.clone(),
                    inner.name,
                    inner.value.get().to_owned(),
                ]);
            }
        } else {
            flat.push([member.name, String::new(), member.value.get().to_owned()]);
        }
    }
    sorted(flat)
}

/// By key, as the order of members means nothing; but duplicates keep theirs.
pub(super) fn sorted(mut flat: Vec<[String; 3]>) -> Vec<[String; 3]> {
    flat.sort_by(|one, other| one[..2].cmp(&other[..2]));
    flat
}

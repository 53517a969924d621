//! The elements of an autocaptured event as the one text that the `elements_chain` column holds.
//!
//! Innermost element first, parted by `;`. An element is its tag, a `.` and a name for each class,
//! `:`, and `key="value"` for each attribute by name: all `attr__*` as sent, then `attr_id`, `href`,
//! `nth-child`, `nth-of-type` and `text`. SDKs that make the chain themselves write the same
//! (`tests/vectors/sdk`: some send both).

use std::borrow::Cow;
use std::collections::BTreeMap;

use penstock_model::Text;

use crate::json::{Elements, Members, Value, replace_lone_surrogates, slice, unescape};

/// Longest text and link of an element in the chain, in code points, as in PostHog's service. The
/// whole link stays in `attr__href`.
const MAX_TEXT_CODE_POINTS: usize = 400;
const MAX_LINK_CODE_POINTS: usize = 2_048;

/// A chain is at most so many times as long as the elements. Real ones are shorter than they: an
/// attribute can come twice, but loses its punctuation. Only thousands of empty objects grow more.
const MAX_GROWTH: usize = 2;
const MAX_GROWTH_BYTES: usize = 64;

/// Attributes and classes of one element. Pages have dozens; each costs memory of its own, several
/// times that of its text.
const MAX_NAMES: usize = 1_000;

/// What became of an event's `$elements`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// `None` if there were no elements.
    pub(crate) text: Option<Text>,
    pub(crate) lone_surrogate_replaced: bool,
}

/// Appends the chain of the array `elements` to `side`.
///
/// `None` if one of them is no object, or if they or the chain are beyond what pages have: then
/// `side` is as it was, and they are a property like any other.
pub(crate) fn write_chain(text: &str, elements: Value, side: &mut String) -> Option<Chain> {
    let start = side.len();
    let max_bytes = elements
        .len()
        .saturating_mul(MAX_GROWTH)
        .saturating_add(MAX_GROWTH_BYTES);
    side.reserve(elements.len());
    let mut writer = ChainWriter {
        text,
        out: side,
        lone_surrogate_replaced: false,
    };
    let mut any = false;
    for element in Elements::new(text.as_bytes(), elements) {
        if any {
            writer.out.push(';');
        }
        any = true;
        let written = element.is_object(text.as_bytes()) && writer.element(element);
        if !written || writer.out.len() - start > max_bytes {
            side.truncate(start);
            return None;
        }
    }
    let lone_surrogate_replaced = writer.lone_surrogate_replaced;
    Some(Chain {
        text: any.then(|| Text::in_side(start, side.len())),
        lone_surrogate_replaced,
    })
}

#[derive(Debug)]
struct ChainWriter<'a> {
    text: &'a str,
    out: &'a mut String,
    lone_surrogate_replaced: bool,
}

impl<'a> ChainWriter<'a> {
    /// Appends an element, or a part of it and false if it has too many names.
    fn element(&mut self, element: Value) -> bool {
        let [mut tag, mut label, mut nth_child, mut nth_of_type] = [Value::ABSENT; 4];
        // By name, and of duplicates the last.
        let mut attributes: BTreeMap<Cow<'a, str>, Value> = BTreeMap::new();
        for (key, value) in Members::new(self.text.as_bytes(), element) {
            let name = self.meaning(key);
            match &*name {
                "tag_name" => tag = value,
                "$el_text" => label = value,
                "nth_child" => nth_child = value,
                "nth_of_type" => nth_of_type = value,
                attribute if attribute.starts_with("attr__") => {
                    attributes.insert(name, value);
                    if attributes.len() > MAX_NAMES {
                        return false;
                    }
                }
                _ => {}
            }
        }
        let classes = attributes.get("attr__class").copied();
        let Some(classes) = self.classes(classes.unwrap_or(Value::ABSENT)) else {
            return false;
        };
        if let Some(tag) = self.string(tag) {
            self.out.push_str(&tag);
        }
        for class in classes {
            self.out.push('.');
            self.out
                .extend(class.chars().filter(|letter| *letter != '"'));
        }
        self.out.push(':');
        for (name, value) in &attributes {
            if let Some(value) = self.any_value(*value) {
                self.pair(name, &value);
            }
        }
        self.filled_pair("attr_id", attributes.get("attr__id"), usize::MAX);
        self.filled_pair("href", attributes.get("attr__href"), MAX_LINK_CODE_POINTS);
        for (name, value) in [("nth-child", nth_child), ("nth-of-type", nth_of_type)] {
            let place = self.any_value(value);
            self.pair(name, place.as_deref().unwrap_or("0"));
        }
        self.filled_pair("text", Some(&label), MAX_TEXT_CODE_POINTS);
        true
    }

    /// Class names in order, from a text or a list of texts; `None` if there are too many.
    fn classes(&mut self, value: Value) -> Option<Vec<String>> {
        let bytes = self.text.as_bytes();
        let mut names = Vec::new();
        let mut add = |list: Option<Cow<'a, str>>| {
            let list = list.unwrap_or_default();
            let room = MAX_NAMES - names.len();
            let mut new = list.split_whitespace();
            names.extend(new.by_ref().take(room).map(str::to_owned));
            new.next().is_none()
        };
        let fits = if value.kind(bytes) == b'[' {
            Elements::new(bytes, value).all(|class| add(self.string(class)))
        } else {
            add(self.string(value))
        };
        names.sort_unstable();
        fits.then_some(names)
    }

    /// Appends an attribute that says nothing when it is empty or no text.
    fn filled_pair(&mut self, name: &str, value: Option<&Value>, max_code_points: usize) {
        let Some(value) = value.and_then(|value| self.string(*value)) else {
            return;
        };
        if value.is_empty() {
            return;
        }
        let end = value.char_indices().nth(max_code_points);
        let end = end.map_or(value.len(), |(end, _)| end);
        self.pair(name, slice(&value, 0, end));
    }

    fn pair(&mut self, name: &str, value: &str) {
        self.escaped(name);
        self.out.push_str("=\"");
        self.escaped(value);
        self.out.push('"');
    }

    /// Appends with a backslash before each quote that has none.
    fn escaped(&mut self, text: &str) {
        let mut from = 0;
        for quote in memchr::memchr_iter(b'"', text.as_bytes()) {
            self.out.push_str(slice(text, from, quote));
            if !self.out.ends_with('\\') {
                self.out.push('\\');
            }
            from = quote;
        }
        self.out.push_str(slice(text, from, text.len()));
    }

    /// Any value but null as text.
    fn any_value(&mut self, value: Value) -> Option<Cow<'a, str>> {
        if value.is_null(self.text.as_bytes()) {
            return None;
        }
        if let Some(text) = self.string(value) {
            return Some(text);
        }
        let json = slice(self.text, value.start(), value.end());
        let mut out = String::with_capacity(json.len());
        self.lone_surrogate_replaced |= replace_lone_surrogates(json, &mut out);
        Some(Cow::Owned(out))
    }

    fn string(&mut self, value: Value) -> Option<Cow<'a, str>> {
        let is_string = value.is_string(self.text.as_bytes());
        is_string.then(|| self.meaning(value))
    }

    /// What a string or a key means.
    fn meaning(&mut self, string: Value) -> Cow<'a, str> {
        let literal = slice(self.text, string.start() + 1, string.end() - 1);
        if !string.escaped() {
            return Cow::Borrowed(literal);
        }
        let mut out = String::with_capacity(literal.len());
        self.lone_surrogate_replaced |= unescape(literal, false, &mut out).lone_surrogate;
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Scanner;

    /// The chain and whether a lone surrogate was in it; `None`: left where it was.
    fn chain_of(json: &str) -> Option<(Option<String>, bool)> {
        let value = Scanner::new(json.as_bytes(), 0, 128).value(0).unwrap();
        let mut side = "before".to_owned();
        let chain = write_chain(json, value, &mut side);
        assert!(side.starts_with("before"));
        let Some(chain) = chain else {
            assert_eq!(side, "before");
            return None;
        };
        let text = chain.text.map(|text| {
            assert_eq!(text.len(), side.len() - "before".len());
            side.strip_prefix("before").unwrap().to_owned()
        });
        Some((text, chain.lone_surrogate_replaced))
    }

    fn text_of(json: &str) -> String {
        chain_of(json).unwrap().0.unwrap()
    }

    /// Each pair was sent by one SDK in one event, elements and chain (`tests/vectors/sdk/web.jsonl`).
    #[test]
    fn the_chain_is_the_one_that_sdks_make_themselves() {
        for (elements, chain) in [
            (
                r#"[{"tag_name":"button","$el_text":"Buy now","classes":["btn","primary"],
                "attr__id":"buy","attr__class":"btn primary","attr__data-attr":"buy-button",
                "nth_child":2,"nth_of_type":1},{"tag_name":"body","nth_child":2,"nth_of_type":1}]"#,
                r#"button.btn.primary:attr__class="btn primary"attr__data-attr="buy-button"attr__id="buy"attr_id="buy"nth-child="2"nth-of-type="1"text="Buy now";body:nth-child="2"nth-of-type="1""#,
            ),
            (
                r#"[{"tag_name":"input","$el_text":"","attr__type":"submit","attr__id":"go",
                "attr__value":"Go","nth_child":3,"nth_of_type":2}]"#,
                r#"input:attr__id="go"attr__type="submit"attr__value="Go"attr_id="go"nth-child="3"nth-of-type="2""#,
            ),
        ] {
            assert_eq!(text_of(elements), chain);
        }
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_left_out() {
        for (elements, chain) in [
            ("[{}]", r#":nth-child="0"nth-of-type="0""#),
            (
                r#"[{"tag_name":7,"$el_text":null,"nth_child":"3","nth_of_type":null,
                "attr__class":5,"attr__a":null,"attr__b":[1, 2],"other":"x"}]"#,
                r#":attr__b="[1, 2]"attr__class="5"nth-child="3"nth-of-type="0""#,
            ),
            (
                r#"[{"tag_name":"a","attr__class":["z","b  a"],"attr__href":"/x"}]"#,
                r#"a.a.b.z:attr__class="["z","b  a"]"attr__href="/x"href="/x"nth-child="0"nth-of-type="0""#,
            ),
        ] {
            // Quotes inside of values are told from those around them.
            let chain = chain.replace(r#"["z","b  a"]"#, r#"[\"z\",\"b  a\"]"#);
            assert_eq!(text_of(elements), chain, "{elements}");
        }
        assert_eq!(chain_of("[]"), Some((None, false)));
    }

    #[test]
    fn quotes_get_one_backslash_and_surrogates_a_replacement() {
        let elements = r#"[{"tag_name":"p","attr__class":"a\"b","$el_text":"say \"hi\" \\\" \ud800","nth_child":1,"nth_of_type":1}]"#;
        let chain = "p.ab:attr__class=\"a\\\"b\"nth-child=\"1\"nth-of-type=\"1\"\
                     text=\"say \\\"hi\\\" \\\" \u{fffd}\"";
        assert_eq!(chain_of(elements), Some((Some(chain.to_owned()), true)));
    }

    #[test]
    fn long_texts_and_links_are_cut_between_code_points() {
        for (max, key, name) in [(400, "$el_text", "text"), (2_048, "attr__href", "href")] {
            for (letters, kept) in [(max, max), (max + 1, max)] {
                let value = "é".repeat(letters);
                let chain = text_of(&format!(r#"[{{"tag_name":"a","{key}":"{value}"}}]"#));
                let expected = format!("{name}=\"{}\"", "é".repeat(kept));
                // The attribute itself is whole, and ends with the same letters.
                let found = chain.split("attr__href").last().unwrap();
                assert!(found.contains(&expected), "{key} {letters}");
                assert_eq!(
                    chain.contains(&"é".repeat(max + 1)),
                    letters > max && key != "$el_text"
                );
            }
        }
    }

    #[test]
    fn what_is_no_list_of_elements_stays_a_property() {
        assert_eq!(chain_of(r#"[{"tag_name":"a"},null]"#), None);
        assert_eq!(chain_of(r#"["a"]"#), None);
        // A chain may be twice as long as its elements and 64 bytes more.
        assert_eq!(text_of("[{},{}]").len(), 59);
        assert_eq!(chain_of("[{},{},{}]"), None);
        let classes = |count| format!(r#"[{{"attr__class":"{}"}}]"#, "x ".repeat(count));
        assert!(chain_of(&classes(MAX_NAMES)).is_some());
        assert_eq!(chain_of(&classes(MAX_NAMES + 1)), None);
        let attributes = |count: usize| {
            let attributes: Vec<_> = (0..count)
                .map(|index| format!(r#""attr__{index}":""#))
                .collect();
            format!("[{{{}\"}}]", attributes.join("\","))
        };
        assert!(chain_of(&attributes(MAX_NAMES)).is_some());
        assert_eq!(chain_of(&attributes(MAX_NAMES + 1)), None);
        let plain = vec![r#"{"tag_name":"a"}"#; 1_000].join(",");
        assert!(chain_of(&format!("[{plain}]")).is_some());
    }
}

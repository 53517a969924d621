//! Request bodies by the number: the same seed gives the same body.
//!
//! Everything that the reader looks at is likely: its keys, plain and escaped; right and wrong
//! types; every escape, at every place of the eight bytes that it reads at once; nesting around the
//! limit.

pub(super) mod cookieless;
pub(super) mod v1;

use std::fmt::Write as _;

use super::Random;
use super::vocabulary::{
    ALPHABET, INNER_KEYS, KEYS, LONE_SURROGATES, NUMBERS, SNIPPETS, STRINGS, TOKENS, UUIDS,
};

/// A body that an SDK could have sent, if it had lost its mind a little.
pub(super) fn request(random: &mut Random) -> Vec<u8> {
    document(random, |writer| match writer.random.below(20) {
        0..9 => writer.batch(),
        9..14 => writer.events(),
        14..19 => writer.event(true),
        _ => writer.value(0),
    })
}

/// One value, and what may stand around it.
fn document(random: &mut Random, value: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut writer = Writer {
        random,
        out: String::new(),
    };
    if writer.random.one_in(40) {
        writer.out.push('\u{feff}');
    }
    writer.space();
    value(&mut writer);
    writer.space();
    writer.out.into_bytes()
}

/// Bytes that are JSON by accident only, where a value is expected.
pub(super) fn soup(random: &mut Random) -> Vec<u8> {
    let (open, close) = [
        ("", ""),
        ("[", "]"),
        ("{\"a\":", "}"),
        ("\"", "\""),
        ("[\"", "\"]"),
        ("[-", "]"),
    ][random.below(6)];
    let mut out = open.as_bytes().to_vec();
    for _ in 0..random.below(24) {
        out.push(ALPHABET[random.below(ALPHABET.len())]);
    }
    out.extend_from_slice(close.as_bytes());
    out
}

/// Damages a body in a place or two, as a cut, a proxy or an attacker might.
pub(super) fn mutate(random: &mut Random, body: &mut Vec<u8>) {
    for _ in 0..=random.below(3) / 2 {
        let at = random.below(body.len() + 1);
        let to = (at + random.below(12)).min(body.len());
        match random.below(8) {
            0 if random.one_in(4) => body.truncate(at),
            1 => drop(body.drain(at..to)),
            2 => {
                let piece = body[at..to].to_vec();
                let place = random.below(body.len() + 1);
                drop(body.splice(place..place, piece));
            }
            3 if at < body.len() => body[at] ^= 1 << random.below(8),
            4 if at + 1 < body.len() => body.swap(at, at + 1),
            // In place of what stood there, so that the rest may still fit.
            5 => drop(body.splice(at..to, random.pick(&SNIPPETS).iter().copied())),
            // Most bytes are letters of some string, where a change leaves JSON as often as not.
            0 | 6 if at < body.len() && body[at].is_ascii_alphanumeric() => {
                body[at] = ALPHABET[random.below(ALPHABET.len())];
            }
            _ => drop(body.splice(at..at, random.pick(&SNIPPETS).iter().copied())),
        }
    }
}

struct Writer<'a> {
    random: &'a mut Random,
    out: String,
}

impl Writer<'_> {
    fn space(&mut self) {
        if self.random.one_in(12) {
            self.out
                .push_str(self.random.pick(&[" ", "\n", "\t", "\r\n  "]));
        }
    }

    fn list(&mut self, brackets: [char; 2], len: usize, mut item: impl FnMut(&mut Self)) {
        self.out.push(brackets[0]);
        self.space();
        for index in 0..len {
            if index > 0 {
                self.out.push(',');
            }
            self.space();
            item(self);
            self.space();
        }
        self.out.push(brackets[1]);
    }

    /// A text that needs no escapes; now and then one letter is written as one.
    fn literal(&mut self, text: &str) {
        self.out.push('"');
        let escaped = if self.random.one_in(10) {
            self.random.below(text.len() + 1)
        } else {
            text.len()
        };
        for (index, letter) in text.char_indices() {
            if index == escaped {
                write!(self.out, "\\u{:04x}", u32::from(letter)).unwrap();
            } else {
                self.out.push(letter);
            }
        }
        self.out.push('"');
    }

    fn key(&mut self, key: &str) {
        self.literal(key);
        self.space();
        self.out.push(':');
        self.space();
    }

    fn batch(&mut self) {
        let len = 2 + self.random.below(4);
        let mut needed = ["api_key", "batch"].iter();
        self.list(['{', '}'], len, |writer| {
            let key = match needed.next() {
                Some(key) if !writer.random.one_in(12) => key,
                _ if writer.random.one_in(2) => {
                    writer
                        .random
                        .pick(&["token", "batch", "sent_at", "historical_migration"])
                }
                _ => writer.random.pick(&KEYS),
            };
            match key {
                "batch" if !writer.random.one_in(12) => {
                    writer.key(key);
                    writer.events();
                }
                "historical_migration" => {
                    writer.key(key);
                    writer
                        .out
                        .push_str(writer.random.pick(&["true", "false", "\"true\"", "null"]));
                }
                _ => writer.member(key),
            }
        });
    }

    fn events(&mut self) {
        let len = if self.random.one_in(16) {
            0
        } else {
            1 + self.random.below(3)
        };
        self.list(['[', ']'], len, |writer| {
            if writer.random.one_in(16) {
                writer.value(2);
            } else {
                writer.event(false);
            }
        });
    }

    fn event(&mut self, with_token: bool) {
        let len = self.random.below(9);
        let mut needed = ["event", "distinct_id", "api_key"]
            .iter()
            .take(if with_token { 3 } else { 2 });
        self.list(['{', '}'], len, |writer| {
            // What an event needs comes first, so that most of them are whole.
            let key = match needed.next() {
                Some(key) if !writer.random.one_in(16) => key,
                _ if writer.random.one_in(3) => "properties",
                _ => writer.random.pick(&KEYS),
            };
            writer.member(key);
        });
    }

    /// A member of an event or of a batch.
    fn member(&mut self, key: &str) {
        self.key(key);
        if self.random.one_in(8) {
            return self.value(2);
        }
        match key {
            "properties" => {
                let len = self.random.below(7);
                self.list(['{', '}'], len, Self::inner_member);
            }
            "$set" | "$set_once" | "$groups" => self.object(2),
            "uuid" => {
                let uuid = self.random.pick(&UUIDS);
                self.quoted(uuid);
            }
            "token" | "api_key" | "$token" => {
                let token = self.random.pick(&TOKENS);
                self.quoted(token);
            }
            "timestamp" | "offset" if self.random.one_in(2) => self.number(),
            _ => self.string(),
        }
    }

    fn inner_member(&mut self) {
        let key = self.random.pick(&INNER_KEYS);
        self.key(key);
        match key {
            "$set" | "$set_once" | "$groups" if !self.random.one_in(8) => self.object(3),
            "$process_person_profile" | "$cookieless_mode" => {
                self.out
                    .push_str(self.random.pick(&["true", "false", "null", "\"true\""]));
            }
            "token" => {
                let token = self.random.pick(&TOKENS);
                self.quoted(token);
            }
            _ => self.value(3),
        }
    }

    /// An object with few different keys, so that two of them meet.
    fn object(&mut self, depth: usize) {
        let len = self.random.below(4);
        self.list(['{', '}'], len, |writer| {
            let key = writer.random.pick(&["x", "y", "é"]);
            writer.key(key);
            writer.value(depth + 1);
        });
    }

    fn quoted(&mut self, literal: &str) {
        self.out.push('"');
        self.out.push_str(literal);
        self.out.push('"');
    }

    fn number(&mut self) {
        self.out.push_str(self.random.pick(&NUMBERS));
    }

    fn string(&mut self) {
        self.out.push('"');
        let pieces = if self.random.one_in(16) {
            0
        } else {
            1 + self.random.below(3)
        };
        for _ in 0..pieces {
            self.out.push_str(self.random.pick(&STRINGS));
        }
        if self.random.one_in(25) {
            self.out.push_str(self.random.pick(&LONE_SURROGATES));
        }
        // Around the 200 code points of a distinct_id.
        if self.random.one_in(60) {
            let count = 198 + self.random.below(5);
            self.out
                .push_str(&self.random.pick(&["a", "é", "\\u00e9"]).repeat(count));
        }
        self.out.push('"');
    }

    /// Any value, `depth` containers deep already.
    fn value(&mut self, depth: usize) {
        match self.random.below(11) {
            0 => self.out.push_str("null"),
            1 => self.out.push_str(self.random.pick(&["true", "false"])),
            2..4 => self.number(),
            4..7 => self.string(),
            // Straight down past the limit of eight.
            7 if self.random.one_in(4) => {
                let count = self.random.below(9);
                self.out.push_str(&"[".repeat(count));
                self.number();
                self.out.push_str(&"]".repeat(count));
            }
            _ if depth > 9 => self.string(),
            7 | 8 => {
                let len = self.random.below(4);
                self.list(['[', ']'], len, |writer| writer.value(depth + 1));
            }
            _ => self.object(depth),
        }
    }
}

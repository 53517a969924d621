//! Bodies of capture v1.

use super::super::Random;
use super::super::vocabulary::{NOBODY, TIMES, UUIDS};
use super::{Writer, document};

/// A body that an SDK could have sent, if it had lost its mind a little.
pub(in super::super) fn request(random: &mut Random) -> Vec<u8> {
    document(random, |writer| match writer.random.below(30) {
        0 => writer.value(0),
        1 => writer.v1_events(),
        2 => writer.v1_event(),
        _ => writer.v1_batch(),
    })
}

const KEYS: [&str; 18] = [
    "properties",
    "properties",
    "properties",
    "options",
    "options",
    "options",
    "session_id",
    "window_id",
    "$set",
    "$set_once",
    "$groups",
    "event",
    "distinct_id",
    "timestamp",
    "uuid",
    "token",
    "offset",
    "",
];

const OPTIONS: [&str; 5] = [
    "cookieless_mode",
    "disable_skew_correction",
    "process_person_profile",
    "product_tour_id",
    "new",
];

const TRUTHS: [&str; 14] = [
    "true",
    "false",
    "null",
    "0",
    "1",
    "-0",
    "0.0",
    "-0.5e-3",
    "1e-400",
    "\"true\"",
    "\" FALSE\\n\"",
    "\"1\"",
    "\"0\"",
    "\"\\u0074rue\"",
];

const NO_TRUTHS: [&str; 6] = ["\"yes\"", "\"\"", "[]", "{}", "\"true\\ud800\"", "\"1.0\""];

const TOURS: [&str; 10] = [
    "\"t\"",
    "\"t\\\"\\u0041\"",
    "\"\\ud83e\"",
    "7",
    "-7",
    "-0",
    "18446744073709551615",
    "-9223372036854775808",
    "null",
    "\"\"",
];

const NO_TOURS: [&str; 6] = [
    "7.0",
    "1e3",
    "18446744073709551616",
    "-9223372036854775809",
    "true",
    "{}",
];

const NAMES: [&str; 4] = [
    "e",
    "$pageview",
    "$performance_event",
    "$performance_event2",
];

impl Writer<'_> {
    fn v1_batch(&mut self) {
        let len = 2 + self.random.below(3);
        let mut needed = ["created_at", "batch"].iter();
        self.list(['{', '}'], len, |writer| {
            let key = match needed.next() {
                Some(key) if !writer.random.one_in(60) => key,
                _ => writer.random.pick(&[
                    "capture_internal",
                    "historical_migration",
                    "capture_internal",
                    "sent_at",
                    "created_at",
                    "api_key",
                    "batch",
                ]),
            };
            writer.key(key);
            match key {
                "batch" if !writer.random.one_in(30) => writer.v1_events(),
                "created_at" if !writer.random.one_in(30) => {
                    // Most mean a time.
                    let (time, _) = TIMES[writer.random.below(TIMES.len() - 3)];
                    writer.literal(time);
                }
                "historical_migration" | "capture_internal" => {
                    let truth = writer
                        .random
                        .pick(&["true", "true", "false", "\"true\"", "1"]);
                    writer.out.push_str(truth);
                }
                _ => writer.value(1),
            }
        });
    }

    fn v1_events(&mut self) {
        let len = if self.random.one_in(60) {
            0
        } else {
            1 + self.random.below(3)
        };
        self.list(['[', ']'], len, |writer| {
            if writer.random.one_in(200) {
                writer.value(2);
            } else {
                writer.v1_event();
            }
        });
    }

    fn v1_event(&mut self) {
        let mut needed = ["uuid", "event", "distinct_id", "timestamp"].iter();
        let len = 4 + self.random.below(6);
        self.list(['{', '}'], len, |writer| {
            // What an event needs comes first, so that most of them are whole.
            let key = match needed.next() {
                Some(key) if *key == "uuid" || !writer.random.one_in(25) => key,
                _ => writer.random.pick(&KEYS),
            };
            writer.v1_member(key);
        });
    }

    fn v1_member(&mut self, key: &str) {
        match key {
            "uuid" => {
                self.key(key);
                self.v1_uuid();
            }
            "event" if !self.random.one_in(8) => {
                self.key(key);
                let name = self.random.pick(&NAMES[..]);
                if self.random.one_in(4) {
                    self.literal(name);
                } else {
                    self.string();
                }
            }
            "distinct_id" if !self.random.one_in(8) => {
                self.key(key);
                self.v1_id();
            }
            "timestamp" if !self.random.one_in(20) => {
                self.key(key);
                let (time, _) = TIMES[self.random.below(TIMES.len())];
                self.literal(time);
            }
            "options" if !self.random.one_in(20) => {
                self.key(key);
                let len = self.random.below(4);
                self.list(['{', '}'], len, Self::v1_option);
            }
            _ => self.member(key),
        }
    }

    /// Most are like no other of the body.
    fn v1_uuid(&mut self) {
        if self.random.one_in(40) {
            return match self.random.below(4) {
                0 => self.value(3),
                1 => self.out.push_str("\" \""),
                _ => {
                    let uuid = self.random.pick(&UUIDS);
                    self.quoted(uuid);
                }
            };
        }
        // Twice in a body the first of them is one too many.
        let own = if self.random.one_in(12) {
            0
        } else {
            self.out.len()
        };
        let mut uuid = format!("01890a5d-ac96-774b-bcce-{own:012x}");
        match self.random.below(8) {
            0 => uuid.make_ascii_uppercase(),
            1 => uuid = uuid.replace('-', ""),
            2 => uuid = format!(" {uuid}\u{3000}"),
            _ => {}
        }
        self.literal(&uuid);
    }

    fn v1_id(&mut self) {
        match self.random.below(6) {
            0 => {
                let nobody = self.random.pick(&NOBODY);
                let nobody = match self.random.below(4) {
                    0 => nobody.to_uppercase(),
                    1 => format!(" {nobody} "),
                    2 => format!("{nobody}x"),
                    _ => nobody.to_owned(),
                };
                self.literal(&nobody);
            }
            // Around the 200 bytes of an id.
            1 if self.random.one_in(4) => {
                let count = 98 + self.random.below(4);
                let id = format!("\\t{}x", self.random.pick(&["é", "\\u00e9"]).repeat(count));
                self.quoted(&id);
            }
            _ => self.string(),
        }
    }

    fn v1_option(&mut self) {
        let key = self.random.pick(&OPTIONS);
        self.key(key);
        let is_right = !self.random.one_in(12);
        let value = match (key, is_right) {
            ("product_tour_id", true) => self.random.pick(&TOURS),
            ("product_tour_id", false) => self.random.pick(&NO_TOURS),
            ("new", _) => return self.value(3),
            (_, true) => self.random.pick(&TRUTHS),
            (_, false) => self.random.pick(&NO_TRUTHS),
        };
        self.out.push_str(value);
    }
}

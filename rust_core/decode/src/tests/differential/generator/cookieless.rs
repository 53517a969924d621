//! Bodies with events of visitors, whose secrets stand where they may, and nowhere else.

use super::super::Random;
use super::{Writer, document};

/// In every text that must not be kept, and in no other.
pub(in super::super) const SECRET: &str = "Secret";

const PRIVATE: [&str; 4] = [
    "$ip",
    "$raw_user_agent",
    "$initial_raw_user_agent",
    "$cookieless_extra",
];

const KEYS: [&str; 12] = [
    "properties",
    "$set",
    "$set_once",
    "distinct_id",
    "$distinct_id",
    "$anon_distinct_id",
    "$device_id",
    "session_id",
    "window_id",
    "timestamp",
    "$raw_user_agent_",
    "k",
];

const INNER_KEYS: [&str; 17] = [
    "$cookieless_mode",
    "$host",
    "$host",
    "$timezone",
    "distinct_id",
    "distinct_id",
    "$distinct_id",
    "$anon_distinct_id",
    "$device_id",
    "$session_id",
    "$window_id",
    "$set",
    "$set_once",
    "capture_internal",
    "token",
    "$IP",
    "k",
];

const NOBODIES: [&str; 7] = [
    "ada",
    "$posthog_cookieless",
    "$posthog_cookieless",
    " $posthog_cookieless\\n",
    "\\u000b$posthog_cookieless",
    "\u{3000}\\u0024posthog_cookieless\\u2003",
    "$posthog_cookieless_",
];

const NAMES: [&str; 12] = [
    "$pageview",
    "$pageview",
    "$pageview",
    "$identify",
    "e",
    "e",
    "e",
    "e",
    "e",
    "$create_alias",
    "$merge_dangerously",
    "",
];

/// A body of `/batch/`, or of capture v1.
pub(in super::super) fn request(random: &mut Random, is_v1: bool) -> Vec<u8> {
    document(random, |writer| {
        let len = 1 + writer.random.below(3);
        let event = |writer: &mut Writer<'_>| writer.visitor_event(is_v1);
        match writer.random.below(6) {
            0 if !is_v1 => event(writer),
            1 if !is_v1 => writer.list(['[', ']'], len, event),
            _ => {
                let mut needed = ["created_at", "api_key", "batch"].iter();
                let members = 3 + writer.random.below(2);
                writer.list(['{', '}'], members, |writer| {
                    // What is private may stand beside the events, too, or in a batch that is void.
                    let key = *needed
                        .next()
                        .unwrap_or_else(|| match writer.random.below(4) {
                            0 => &"batch",
                            1 => &"capture_internal",
                            _ => &PRIVATE[0],
                        });
                    writer.key(key);
                    match key {
                        key if PRIVATE.contains(&key) => writer.secret(2),
                        "batch" => writer.list(['[', ']'], len, event),
                        "created_at" => writer.literal("2026-01-01"),
                        "api_key" => writer.literal("phc_a"),
                        _ => writer.out.push_str("true"),
                    }
                });
            }
        }
    })
}

impl Writer<'_> {
    fn visitor_event(&mut self, is_v1: bool) {
        let mut needed = vec!["event", "properties", "distinct_id", "token"];
        if is_v1 {
            needed.extend(["uuid", "timestamp", "options"]);
        }
        let count = needed.len() + self.random.below(4);
        let mut needed = needed.into_iter();
        self.list(['{', '}'], count, |writer| {
            let is_needed = !writer.random.one_in(12);
            let key = match needed.next() {
                Some(key) if is_needed || key == "uuid" => key,
                _ if writer.random.one_in(3) => writer.random.pick(&PRIVATE),
                _ => writer.random.pick(&KEYS),
            };
            writer.key(key);
            match key {
                "event" => {
                    let name = writer.random.pick(&NAMES);
                    writer.literal(name);
                }
                "token" => writer.literal("phc_a"),
                "uuid" => {
                    let uuid = format!("01890a5d-ac96-774b-bcce-{:012x}", writer.out.len());
                    writer.literal(&uuid);
                }
                "timestamp" => writer.literal("2026-01-01T00:00:00Z"),
                "options" => writer.visitor_options(),
                "properties" if !writer.random.one_in(16) => writer.visitor_properties(),
                _ => writer.visitor_value(key, 2),
            }
        });
    }

    fn visitor_options(&mut self) {
        let len = self.random.below(3);
        let mut needed = ["cookieless_mode"].iter();
        self.list(['{', '}'], len, |writer| {
            let key = needed.next().unwrap_or(&"product_tour_id");
            writer.key(key);
            // What reads as yes, as no, and as nothing.
            let value = writer
                .random
                .pick(&["true", "\"1\"", "\"true\"", "1", "false", "null", "[]"]);
            writer.out.push_str(value);
        });
    }

    fn visitor_properties(&mut self) {
        // One in six was told its ids before, if its `distinct_id` fits.
        let second = if self.random.one_in(6) {
            "$device_id"
        } else {
            "$raw_user_agent"
        };
        let mut needed = ["$cookieless_mode", second, "$host"].into_iter();
        let len = 3 + self.random.below(6);
        self.list(['{', '}'], len, |writer| {
            let key = match writer.random.below(12) {
                0 => writer.random.pick(&PRIVATE),
                1 => writer.random.pick(&INNER_KEYS),
                _ => match needed.next() {
                    Some(key) => key,
                    None if writer.random.one_in(3) => writer.random.pick(&PRIVATE),
                    None => writer.random.pick(&INNER_KEYS),
                },
            };
            writer.key(key);
            if key == "$cookieless_mode" {
                // Six of nine are visitors; one may have been meant to be.
                let value = match writer.random.below(9) {
                    0..6 => "true",
                    6 => "false",
                    7 => "null",
                    _ => "\"yes\"",
                };
                writer.out.push_str(value);
            } else {
                writer.visitor_value(key, 3);
            }
        });
    }

    /// The value of a member, `depth` containers deep.
    fn visitor_value(&mut self, key: &str, depth: usize) {
        if PRIVATE.contains(&key) {
            return self.secret(depth);
        }
        match key {
            "distinct_id" | "$distinct_id" | "$anon_distinct_id" if !self.random.one_in(4) => {
                let nobody = self.random.pick(&NOBODIES);
                self.quoted(nobody);
            }
            "$device_id" => {
                let device = self.random.pick(&[
                    "\"cookielessd_x\"",
                    "\"cookielessd_x\"",
                    "\"d\"",
                    "null",
                    "7",
                ]);
                self.out.push_str(device);
            }
            "$host" if !self.random.one_in(8) => self.literal("example.com:80"),
            "$timezone" if !self.random.one_in(4) => self.literal("Europe/Berlin"),
            "token" => self.literal("phc_a"),
            _ => self.tree(depth),
        }
    }

    /// What must not be kept, whatever it is.
    fn secret(&mut self, depth: usize) {
        match self.random.below(16) {
            0 => self.out.push_str("null"),
            1 => self.literal(" "),
            2 => self.out.push_str("20.5e1"),
            3 => self.quoted("Secret\\\"}],\\\\"),
            4 => self.quoted("Secret \\ud83e"),
            5 => self.out.push_str("[ \"Secret\", {\"Secret]\" : 1 }]"),
            6 if depth < 6 => {
                self.out.push_str("{\"Secret\":");
                self.tree(depth + 1);
                self.out.push('}');
            }
            _ => self.literal("Secret/5.0"),
        }
    }

    /// A value in which private members may stand at any depth.
    fn tree(&mut self, depth: usize) {
        match self.random.below(8) {
            _ if depth > 6 => self.string(),
            0..3 => {
                let len = self.random.below(4);
                self.list(['{', '}'], len, |writer| {
                    let key = match writer.random.below(3) {
                        0 => writer.random.pick(&["x", "é", "$posthog_cookieless"]),
                        _ => writer.random.pick(&PRIVATE),
                    };
                    writer.key(key);
                    writer.visitor_value(key, depth + 1);
                });
            }
            3 | 4 => {
                let len = self.random.below(3);
                self.list(['[', ']'], len, |writer| writer.tree(depth + 1));
            }
            // What only looks like a member.
            5 => {
                let text = self
                    .random
                    .pick(&["$ip", "\\\"$ip\\\":1", "$raw_user_agent", "\\\\"]);
                self.quoted(text);
            }
            6 => self.number(),
            _ => self.string(),
        }
    }
}

//! The corpus: web events as `posthog-js` sends them, from a seed.
//!
//! An event has 27 properties and about 1,070 bytes, every twelfth a `$set` besides. Users have
//! sessions of several events, so batches repeat what real ones repeat: 50 events of one body
//! shrink to about 1/5.5 under gzip 6. The tests below hold these numbers.

use std::io::Write as _;

use crate::ids::{ID_BYTES, Ids, mix};

/// The project token of every body.
pub const TOKEN: &str = "phc_benchBenchBenchBenchBenchBenchBenchBenchBen";

/// One request body whose event ids can be replaced in place.
#[derive(Clone, Debug)]
pub struct Body {
    /// The bytes to send; the load generator puts the request's head before them.
    pub bytes: Vec<u8>,
    /// Where each event's id begins.
    pub id_offsets: Vec<usize>,
}

impl Body {
    /// Gives every event a new id. Costs about 25 ns an event and no copy.
    pub fn stamp(&mut self, ids: &mut Ids) {
        for &offset in &self.id_offsets {
            if let Some(slot) = self.bytes[offset..].first_chunk_mut::<ID_BYTES>() {
                ids.write(slot);
            }
        }
    }

    /// Puts `head` before the bytes.
    pub fn prepend(&mut self, head: &[u8]) {
        self.bytes.splice(0..0, head.iter().copied());
        for offset in &mut self.id_offsets {
            *offset += head.len();
        }
    }
}

const PATHS: [&str; 12] = [
    "/",
    "/pricing",
    "/docs/start",
    "/blog/launch-week",
    "/account/settings",
    "/checkout/payment",
    "/products/42/reviews",
    "/search",
    "/login",
    "/signup",
    "/docs/api/reference",
    "/team/invite",
];
const REFERRERS: [&str; 5] = [
    "https://www.google.com/",
    "https://t.example/",
    "$direct",
    "https://acme.io/",
    "https://duckduckgo.com/",
];
const EVENTS: [&str; 8] = [
    "$pageview",
    "$pageview",
    "$pageleave",
    "$autocapture",
    "$autocapture",
    "button_clicked",
    "search_performed",
    "item_added",
];
const ZONES: [&str; 5] = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Tokyo",
    "Europe/London",
    "America/Sao_Paulo",
];
const LANGUAGES: [&str; 5] = ["de-DE", "en-US", "ja-JP", "en-GB", "pt-BR"];
const AGENTS: [(&str, &str, &str, &str, &str); 4] = [
    (
        "Windows",
        "10.0",
        "Chrome",
        "142",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
    ),
    (
        "Mac OS X",
        "10.15.7",
        "Safari",
        "26.1",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/26.1 Safari/605.1.15",
    ),
    (
        "Linux",
        "",
        "Firefox",
        "145",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    ),
    (
        "iOS",
        "26.1",
        "Mobile Safari",
        "26.1",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) AppleWebKit/605.1.15 Version/26.1 Safari/604.1",
    ),
];
const SCREENS: [(u32, u32); 4] = [(1920, 1080), (2560, 1440), (1366, 768), (390, 844)];

/// Visitors whose events mix in one stream, as a gateway in front of many browsers sends them.
const VISITORS: usize = 600;

#[derive(Clone, Debug)]
struct Visitor {
    distinct: [u64; 2],
    session: [u64; 2],
    window: [u64; 2],
    machine: [u64; 2],
    device: usize,
    place: usize,
    referrer: usize,
    identified: bool,
}

/// Makes events, one after the other, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Corpus {
    state: u64,
    made: u64,
    visitors: Vec<Visitor>,
}

impl Corpus {
    pub fn new(seed: u64) -> Self {
        let mut corpus = Self {
            state: mix(seed),
            made: 0,
            visitors: Vec::new(),
        };
        for _ in 0..VISITORS {
            let visitor = corpus.visitor();
            corpus.visitors.push(visitor);
        }
        corpus
    }

    /// Makes a body for `/batch/` (or the gRPC `Append`) with `events` events.
    pub fn body(&mut self, events: usize) -> Body {
        let mut bytes = Vec::with_capacity(events * 1100 + 128);
        let mut id_offsets = Vec::with_capacity(events);
        put(
            &mut bytes,
            format_args!(
                r#"{{"api_key":"{TOKEN}","historical_migration":false,"sent_at":"2026-01-15T13:00:00.000Z","batch":["#
            ),
        );
        for index in 0..events {
            if index > 0 {
                bytes.push(b',');
            }
            id_offsets.push(self.event(&mut bytes));
        }
        bytes.extend_from_slice(b"]}");
        Body { bytes, id_offsets }
    }

    /// Appends one event and gives the place of its id.
    fn event(&mut self, out: &mut Vec<u8>) -> usize {
        let slot = self.below(VISITORS);
        if self.below(8) == 0 {
            self.visitors[slot] = self.visitor();
        }
        let visitor = self.visitors[slot].clone();
        let name = EVENTS[self.below(EVENTS.len())];
        let path = PATHS[self.below(PATHS.len())];
        let (os, os_version, browser, browser_version, agent) = AGENTS[visitor.device];
        let (width, height) = SCREENS[visitor.device];
        let millis = self.made % 3_600_000;
        let (minute, second, milli) = (millis / 60_000, millis / 1000 % 60, millis % 1000);
        self.made += 1;
        let previous = [self.random(), self.random()];
        let insert = self.random() >> 14;
        let pageview = [self.random(), self.random()];
        let viewport = height - 100 - u32::try_from(self.below(60)).unwrap_or(0);

        out.extend_from_slice(br#"{"uuid":""#);
        let id_offset = out.len();
        out.extend_from_slice(b"00000000-0000-7000-8000-000000000000");
        put(
            out,
            format_args!(
                r#"","event":"{name}","distinct_id":"{distinct}","timestamp":"2026-01-15T12:{minute:02}:{second:02}.{milli:03}Z","properties":{{"$os":"{os}","$os_version":"{os_version}","$browser":"{browser}","$browser_version":{browser_version},"$device_type":"{kind}","$current_url":"https://app.acme.io{path}","$host":"app.acme.io","$pathname":"{path}","$raw_user_agent":"{agent}","$browser_language":"{language}","$screen_height":{height},"$screen_width":{width},"$viewport_height":{viewport},"$viewport_width":{width},"$lib":"web","$lib_version":"1.298.0","$insert_id":"{insert:013x}","$time":1768478{minute:03}.{milli:03},"$device_id":"{machine}","$session_id":"{session}","$window_id":"{window}","$pageview_id":"{pageview}","$referrer":"{referrer}","$timezone":"{zone}","$is_identified":{identified},"$process_person_profile":{identified},"$prev_id":"{previous}"}}"#,
                distinct = Hex(visitor.distinct),
                session = Hex(visitor.session),
                window = Hex(visitor.window),
                machine = Hex(visitor.machine),
                pageview = Hex(pageview),
                previous = Hex(previous),
                kind = if visitor.device == 3 {
                    "Mobile"
                } else {
                    "Desktop"
                },
                language = LANGUAGES[visitor.place],
                zone = ZONES[visitor.place],
                referrer = REFERRERS[visitor.referrer],
                identified = visitor.identified,
            ),
        );
        if self.below(12) == 0 {
            let number = self.below(100_000);
            put(
                out,
                format_args!(r#","$set":{{"plan":"pro","seats":{number}}}"#),
            );
        }
        out.push(b'}');
        id_offset
    }

    fn visitor(&mut self) -> Visitor {
        Visitor {
            distinct: [self.random(), self.random()],
            session: [self.random(), self.random()],
            window: [self.random(), self.random()],
            machine: [self.random(), self.random()],
            device: self.below(AGENTS.len()),
            place: self.below(ZONES.len()),
            referrer: self.below(REFERRERS.len()),
            identified: self.below(3) == 0,
        }
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state)
    }

    /// A number below `end`; the bias of the modulus does not matter here.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random() % u64::try_from(end).unwrap_or(u64::MAX)).unwrap_or(0)
    }
}

/// 128 bits in the shape of a UUID of version 7.
struct Hex([u64; 2]);

impl std::fmt::Display for Hex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [high, low] = self.0;
        let time = 0x019b_c000_0000 | (high >> 32 & 0x0fff_ffff);
        let (first, second) = (time >> 16, time & 0xffff);
        let (third, fourth) = (0x7000 | (high & 0xfff), 0x8000 | (low >> 50));
        write!(
            formatter,
            "{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{:012x}",
            low & ((1 << 48) - 1)
        )
    }
}

#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail")]
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compressor;

    fn ratio(events: usize) -> f64 {
        let mut corpus = Corpus::new(1);
        let mut ids = Ids::new(0);
        let (mut plain, mut packed) = (0, 0);
        for _ in 0..(1000 / events) {
            let mut body = corpus.body(events);
            body.stamp(&mut ids);
            let mut out = Vec::new();
            Compressor::new(6).compress(&body.bytes, &mut out);
            plain += body.bytes.len();
            packed += out.len();
        }
        f64::from(u32::try_from(plain).unwrap()) / f64::from(u32::try_from(packed).unwrap())
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (mut one, mut other) = (Corpus::new(7), Corpus::new(7));
        assert_eq!(one.body(50).bytes, other.body(50).bytes);
        assert_ne!(Corpus::new(8).body(50).bytes, Corpus::new(7).body(50).bytes);
    }

    #[test]
    fn events_have_the_stated_size_and_compress_as_stated() {
        let bytes = Corpus::new(1).body(1000).bytes.len() / 1000;
        assert!((1040..=1100).contains(&bytes), "{bytes} bytes an event");
        let (one, fifty) = (ratio(1), ratio(50));
        assert!(
            (1.5..=2.0).contains(&one),
            "a body of one event shrinks to 1/{one:.2}"
        );
        assert!(
            (5.2..=5.8).contains(&fifty),
            "a body of 50 shrinks to 1/{fifty:.2}"
        );
    }

    #[test]
    fn stamping_replaces_the_ids_and_nothing_else() {
        let mut body = Corpus::new(1).body(3);
        body.prepend(b"head");
        let before = body.bytes.clone();
        body.stamp(&mut Ids::new(5));
        assert_eq!(before.len(), body.bytes.len());
        for &offset in &body.id_offsets {
            assert_eq!(&body.bytes[offset - 8..offset], br#""uuid":""#);
            assert_eq!(body.bytes[offset + ID_BYTES], b'"');
        }
        let changed = before
            .iter()
            .zip(&body.bytes)
            .filter(|(old, new)| old != new)
            .count();
        assert!(changed <= 3 * 32);
    }
}

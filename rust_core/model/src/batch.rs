//! A decoded request: events whose texts are ranges of the body, not copies.
//!
//! A batch is plain data without a borrow, so it can be kept while its record is on the way to
//! disk and be built into a segment afterwards. Texts are read through a [`BatchView`], which
//! checks the body's UTF-8 once per view (25 ns a kB, `measured.md` §1) so that no unsafe
//! code is needed here; who only needs the bytes of a text asks [`Batch::text_bytes`].

use std::ops::Range;

use crate::{COOKIELESS_DISTINCT_ID, Outcome, Payload, VISITOR_DISTINCT_ID_PREFIX};

/// A range of the batch's body or of its side buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// Top bit: in the side buffer. The rest: first byte. Bodies are at most 100 MiB and side
    /// buffers at most three times that, so 31 bits hold both.
    start: u32,
    len: u32,
}

const IN_SIDE: u32 = 1 << 31;

impl Text {
    /// Names no text: what a field reads as that was never found.
    pub const EMPTY: Self = Self { start: 0, len: 0 };

    /// A range of the body. Panics beyond 2 GiB, which the limits exclude.
    pub fn in_body(start: usize, end: usize) -> Self {
        Self::make(start, end, 0)
    }

    /// A range of the side buffer. Panics beyond 2 GiB, which the limits exclude.
    pub fn in_side(start: usize, end: usize) -> Self {
        Self::make(start, end, IN_SIDE)
    }

    #[expect(
        clippy::expect_used,
        reason = "bodies are bounded by max_decompressed_bytes"
    )]
    fn make(start: usize, end: usize, flag: u32) -> Self {
        let start32 = u32::try_from(start).expect("texts stay below 2 GiB");
        let len = u32::try_from(end - start).expect("texts stay below 2 GiB");
        assert!(start32 < IN_SIDE, "texts stay below 2 GiB");
        Self {
            start: start32 | flag,
            len,
        }
    }

    pub const fn len(self) -> usize {
        self.len as usize
    }

    const fn is_in_side(self) -> bool {
        self.start & IN_SIDE != 0
    }

    /// Its place in the body or the side buffer.
    const fn range(self) -> Range<usize> {
        let start = (self.start & !IN_SIDE) as usize;
        start..start + self.len()
    }

    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Where the decoded text of a request lives.
#[derive(Clone, Debug)]
pub enum BatchText {
    /// The body as received: nothing was compressed, nothing was copied.
    Received(Payload),
    /// Undone content coding, or invalid UTF-8 replaced.
    Decoded(Vec<u8>),
}

impl BatchText {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Received(payload) => payload.as_slice(),
            Self::Decoded(bytes) => bytes,
        }
    }
}

/// An event id: the 16 bytes of a UUID of any version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Length of the hyphenated text.
    pub const TEXT_BYTES: usize = 36;

    /// Writes the lower-case hyphenated form.
    pub fn write_text(self, out: &mut [u8; Self::TEXT_BYTES]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                out[at] = b'-';
                at += 1;
            }
            out[at] = DIGITS[usize::from(byte >> 4)];
            out[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = [0; Self::TEXT_BYTES];
        self.write_text(&mut text);
        formatter.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Something that was done to an accepted event and that its owner may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Warning {
    /// Longer than 200 code points: cut there, as PostHog does.
    DistinctIdTruncated = 0,
    /// Bytes that are not UTF-8 were replaced by U+FFFD somewhere in the request.
    InvalidUtf8 = 1,
    /// A lone surrogate in this event was replaced by U+FFFD.
    LoneSurrogate = 2,
    /// The timestamp could not be read; the time of receipt stands in its place.
    InvalidTimestamp = 3,
    /// More than 23 hours ahead; the time of receipt stands in its place.
    TimestampInFuture = 4,
    /// Outside of the years 1 to 9999; 1970-01-01 stands in its place, as in PostHog's service.
    TimestampOutOfRange = 5,
    /// `$process_person_profile` was neither true nor false; taken as true.
    InvalidProcessPersonProfile = 6,
    /// NUL characters of an id were replaced by U+FFFD.
    NulReplaced = 7,
    /// The `distinct_id` is one that broken clients send, such as `undefined`: no person's, so the
    /// event is stored as `propertyless` (capture v1).
    PersonProcessingDisabled = 8,
}

impl Warning {
    pub const ALL: [Self; 9] = [
        Self::DistinctIdTruncated,
        Self::InvalidUtf8,
        Self::LoneSurrogate,
        Self::InvalidTimestamp,
        Self::TimestampInFuture,
        Self::TimestampOutOfRange,
        Self::InvalidProcessPersonProfile,
        Self::NulReplaced,
        Self::PersonProcessingDisabled,
    ];

    /// The value in the `warnings` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DistinctIdTruncated => "distinct_id_truncated",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::LoneSurrogate => "lone_surrogate",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::TimestampInFuture => "timestamp_in_future",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::InvalidProcessPersonProfile => "invalid_process_person_profile",
            Self::NulReplaced => "nul_replaced",
            Self::PersonProcessingDisabled => "person_processing_disabled",
        }
    }
}

/// A set of [`Warning`]s, and how long the `distinct_id` was if it was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    set: u16,
    distinct_id_length: u32,
}

impl Warnings {
    pub fn add(&mut self, warning: Warning) {
        self.set |= 1 << (warning as u8);
    }

    /// Adds [`Warning::DistinctIdTruncated`] of an id that had so many code points: those of long
    /// ones are mostly no ids, but whole objects, and many people become one.
    pub fn add_truncated(&mut self, code_points: usize) {
        self.add(Warning::DistinctIdTruncated);
        self.distinct_id_length = u32::try_from(code_points).unwrap_or(u32::MAX);
    }

    /// Code points of the `distinct_id` before it was cut; 0 if it was not.
    pub const fn distinct_id_length(self) -> u32 {
        self.distinct_id_length
    }

    pub const fn is_empty(self) -> bool {
        self.set == 0
    }

    pub const fn contains(self, warning: Warning) -> bool {
        self.set & (1 << (warning as u8)) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Warning> {
        Warning::ALL
            .into_iter()
            .filter(move |warning| self.contains(*warning))
    }
}

/// What an event says of its client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientIp {
    /// Nothing: the address of the request stands for it.
    #[default]
    Unsaid,
    /// That there is none to store: `$ip` is there, but is no text.
    Withheld,
    /// `properties.$ip`.
    Given(Text),
}

/// One event of a request, decided once.
///
/// For a rejected event the texts hold what could be read and are [`Text::EMPTY`] where nothing
/// could.
#[derive(Clone, Debug)]
pub struct Event {
    pub outcome: Outcome,
    /// The client's id, or one made at receipt (version 7).
    pub uuid: Uuid,
    /// Whether the client gave the id. Without one there is no deduplication.
    pub uuid_given: bool,
    pub event: Text,
    pub distinct_id: Text,
    /// When it happened, after the protocol's corrections: microseconds since the Unix epoch,
    /// within the years 1 to 9999.
    pub timestamp_us: i64,
    /// The timestamp exactly as sent.
    pub client_timestamp: Option<Text>,
    /// JSON object text: the client's own bytes unless one of the listed rewrites applied.
    pub properties: Text,
    pub session_id: Option<Text>,
    pub window_id: Option<Text>,
    /// `$snapshot_source`: what a snapshot of session replay was taken of.
    pub snapshot_source: Option<Text>,
    pub lib: Option<Text>,
    pub lib_version: Option<Text>,
    pub elements_chain: Option<Text>,
    pub ip: ClientIp,
    /// Anonymous: `$process_person_profile` is false.
    pub propertyless: bool,
    /// `$cookieless_mode` is true.
    pub cookieless: bool,
    pub warnings: Warnings,
    /// The event's own text, from brace to brace.
    pub raw: Text,
}

/// All events of one request, in the client's order, with the buffers that their texts lie in.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The decoded body: UTF-8, checked by the decoder.
    pub text: BatchText,
    /// Texts that had to be rewritten.
    pub side: String,
    pub events: Vec<Event>,
    /// The batch's token: trimmed, checked for shape, not yet looked up.
    pub token: Text,
    /// `historical_migration`.
    pub historical: bool,
    /// The client's clock when it sent, microseconds since the Unix epoch.
    pub sent_at_us: Option<i64>,
}

impl Batch {
    /// Opens the batch for reading its texts.
    ///
    /// Panics if the body is not UTF-8: the decoder has checked it and nothing can change it.
    #[expect(
        clippy::expect_used,
        reason = "the decoder made the batch from checked text"
    )]
    pub fn view(&self) -> BatchView<'_> {
        BatchView {
            body: simdutf8::basic::from_utf8(self.text.bytes()).expect("checked by the decoder"),
            side: &self.side,
        }
    }

    /// The bytes of the text that `text` names. Panics if it names another batch's.
    pub fn text_bytes(&self, text: Text) -> &[u8] {
        let buffer = if text.is_in_side() {
            self.side.as_bytes()
        } else {
            self.text.bytes()
        };
        &buffer[text.range()]
    }

    /// What stands for the person in the key of deduplication: the `distinct_id` as the client sends
    /// it. One that was made of a visit changes with the client's address, and a retry may come from
    /// another.
    pub fn dedup_distinct_id(&self, event: &Event) -> &[u8] {
        let distinct_id = self.text_bytes(event.distinct_id);
        if event.cookieless && distinct_id.starts_with(VISITOR_DISTINCT_ID_PREFIX.as_bytes()) {
            return COOKIELESS_DISTINCT_ID.as_bytes();
        }
        distinct_id
    }

    /// The batch's token.
    #[expect(clippy::expect_used, reason = "the decoder cuts at character borders")]
    pub fn token(&self) -> &str {
        let bytes = self.text_bytes(self.token);
        std::str::from_utf8(bytes).expect("the decoder names whole characters")
    }

    /// Bytes that this batch keeps alive: what a cache of batches counts.
    pub fn held_bytes(&self) -> usize {
        self.text.bytes().len()
            + self.side.capacity()
            + self.events.capacity() * std::mem::size_of::<Event>()
            + std::mem::size_of::<Self>()
    }
}

/// The texts of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    body: &'a str,
    side: &'a str,
}

impl<'a> BatchView<'a> {
    /// The text that `text` names. Panics if it names another batch's.
    #[expect(
        clippy::string_slice,
        reason = "the decoder cuts at character borders; else a bug"
    )]
    pub fn get(&self, text: Text) -> &'a str {
        let buffer = if text.is_in_side() {
            self.side
        } else {
            self.body
        };
        &buffer[text.range()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_prints_lower_case_with_hyphens() {
        let uuid = Uuid(0x0192_f3a4_b5c6_7d8e_9f00_1122_3344_55ff_u128.to_be_bytes());
        assert_eq!(uuid.to_string(), "0192f3a4-b5c6-7d8e-9f00-1122334455ff");
    }

    #[test]
    fn texts_name_the_body_or_the_side_buffer() {
        let batch = Batch {
            text: BatchText::Received(Payload::new(b"hello".to_vec())),
            side: "world".to_owned(),
            events: Vec::new(),
            token: Text::EMPTY,
            historical: false,
            sent_at_us: None,
        };
        let view = batch.view();
        assert_eq!(view.get(Text::in_body(1, 3)), "el");
        assert_eq!(view.get(Text::in_side(0, 2)), "wo");
        assert_eq!(view.get(Text::EMPTY), "");
        assert_eq!(batch.text_bytes(Text::in_body(1, 3)), b"el");
        assert_eq!(batch.text_bytes(Text::in_side(0, 2)), b"wo");
    }
}

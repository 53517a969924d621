//! Decides one event: reads out its texts, its time and its id, and says what is wrong with it.

use std::borrow::Cow;

use penstock_model::{
    Batch, BatchText, ClientIp, Code, Event, Outcome, RequestContext, Text, Uuid, Warning, Warnings,
};

use crate::distinct_id::{self, Changes, Id};
use crate::envelope::Envelope;
use crate::event::{Inner, RawEvent, Root};
use crate::json::{Members, Replaced, Value, slice, unescape};
use crate::library::name_and_version;
use crate::properties::Rewrite;
use crate::timestamps::{self, Claim, Clocks, Computed};
use crate::token::Resolved;
use crate::{elements, properties, uuids};

/// The address of what a service of its own sent (`capture_internal`), instead of the client's.
pub(crate) const INTERNAL_ADDRESS: &str = "127.0.0.1";

/// Longest session id of a snapshot (`posthog-protocol.md` §3.9).
const MAX_SESSION_ID_BYTES: usize = 70;

/// What all events of a request are judged by.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) text: &'a str,
    pub(crate) context: &'a RequestContext,
    token: &'a Resolved,
    clocks: Clocks,
    /// Invalid bytes were replaced somewhere in the request.
    pub(crate) repaired: bool,
    pub(crate) side: String,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        text: &'a str,
        context: &'a RequestContext,
        token: &'a Resolved,
        sent_at_us: Option<i64>,
        repaired: bool,
    ) -> Self {
        Self {
            text,
            context,
            token,
            clocks: Clocks {
                received_at_us: context.received_at_us,
                sent_at_us,
            },
            repaired,
            side: String::new(),
        }
    }

    /// The batch of what was decided. Its own text is left for the caller to put in.
    pub(crate) fn into_batch(self, token: Text, events: Vec<Event>, envelope: &Envelope) -> Batch {
        let mut side = self.side;
        side.shrink_to_fit();
        Batch {
            text: BatchText::Decoded(Vec::new()),
            side,
            events,
            token,
            historical: envelope.historical_migration.kind(self.text.as_bytes()) == b't',
            sent_at_us: self.clocks.sent_at_us,
        }
    }

    /// Decides event `index` of the request.
    pub(crate) fn judge(&mut self, raw: &RawEvent, index: usize) -> Event {
        let bytes = self.text.as_bytes();
        let mut warnings = Warnings::default();
        if self.repaired {
            warnings.add(Warning::InvalidUtf8);
        }
        let mut fault = None;
        // The first fault found is the one reported.
        let mut note = |found: Option<Code>| fault = fault.or(found);

        note((!raw.whole.is_object(bytes)).then_some(Code::NotAnObject));
        let too_large = raw.whole.len() > self.context.limits.max_event_bytes as usize;
        note(too_large.then_some(Code::EventTooLarge));
        note(raw.too_deep.then_some(Code::EventTooDeep));
        let conflict = self.token.conflicts_with(self.text, raw);
        note(conflict.then_some(Code::TokenMismatch));
        let (event, event_fault) = self.event_name(raw[Root::Event], &mut warnings);
        note(event_fault);
        let bad_properties =
            !raw[Root::Properties].is_null(bytes) && !raw[Root::Properties].is_object(bytes);
        note(bad_properties.then_some(Code::InvalidProperties));
        let distinct_id = self.distinct_id(raw, &mut warnings);
        note(distinct_id.is_none().then_some(Code::MissingDistinctId));
        let mode = raw[Inner::CookielessMode].kind(bytes);
        note((!matches!(mode, 0 | b'n' | b't' | b'f')).then_some(Code::InvalidCookielessMode));
        let is_snapshot = self.context.endpoint.takes_recordings();
        // Of what is in a snapshot nothing is looked at. A mode that can't be read may have been
        // meant: what is refused for it is kept without what tells of the visitor.
        let cookieless = !is_snapshot && !matches!(mode, 0 | b'n' | b'f');
        let uuid = self.uuid(raw[Root::Uuid]);
        note(uuid.is_err().then_some(Code::InvalidUuid));
        if is_snapshot {
            note(self.snapshot_fault(raw));
        }

        let offset_ms = offset_ms(self.text, raw[Root::Offset]);
        let ignore_sent_at = raw[Inner::IgnoreSentAt].kind(bytes) == b't';
        let (timestamp_us, client_timestamp) = self.timestamp(
            raw[Root::Timestamp],
            offset_ms,
            ignore_sent_at,
            &mut warnings,
        );
        let readable = !(too_large || raw.too_deep || bad_properties);
        // Of a snapshot there is no chain to store them in instead.
        let (elements_chain, without_elements) = if is_snapshot {
            (None, false)
        } else {
            self.elements_chain(raw, readable, &mut warnings)
        };
        let properties = if readable {
            let rewrite = Rewrite {
                without_elements,
                ..Rewrite::default()
            };
            let properties = properties::write(self.text, raw, rewrite, &mut self.side);
            if properties.lone_surrogate_replaced {
                warnings.add(Warning::LoneSurrogate);
            }
            properties.text
        } else {
            Text::EMPTY
        };
        let propertyless = self.is_propertyless(raw, &mut warnings);
        let mut ip = self.ip(raw[Inner::Ip], cookieless, &mut warnings);
        if ip == ClientIp::Unsaid && !raw[Inner::CaptureInternal].is_absent() {
            ip = ClientIp::Given(self.write(INTERNAL_ADDRESS));
        }
        let mut lib = self.optional(raw[Inner::Lib], false, &mut warnings);
        let mut lib_version = self.optional(raw[Inner::LibVersion], false, &mut warnings);
        if is_snapshot && lib.is_none() && fault.is_none() {
            (lib, lib_version) = self.library(lib_version);
        }
        let given = uuid.unwrap_or_default();
        let made = || uuids::make_v7(timestamp_us, self.context.uuid_seed, index);
        // An event that isn't stored as one needs no id.
        let uuid = given.unwrap_or_else(|| {
            if fault.is_none() {
                made()
            } else {
                Uuid::default()
            }
        });
        Event {
            outcome: fault.map_or(Outcome::Accepted, Outcome::Rejected),
            uuid,
            uuid_given: given.is_some(),
            event,
            distinct_id: distinct_id.unwrap_or(Text::EMPTY),
            timestamp_us,
            client_timestamp,
            properties,
            session_id: self.optional(raw[Inner::SessionId], true, &mut warnings),
            window_id: self.optional(raw[Inner::WindowId], true, &mut warnings),
            snapshot_source: if is_snapshot {
                self.optional(raw[Inner::SnapshotSource], false, &mut warnings)
            } else {
                None
            },
            lib,
            lib_version,
            elements_chain,
            ip,
            propertyless,
            cookieless,
            warnings,
            raw: Text::in_body(raw.whole.start(), raw.whole.end()),
        }
    }

    fn event_name(&mut self, value: Value, warnings: &mut Warnings) -> (Text, Option<Code>) {
        if value.is_null(self.text.as_bytes()) {
            return match self.context.endpoint.default_event_name() {
                Some(name) => (self.write(name), None),
                None => (Text::EMPTY, Some(Code::MissingEventName)),
            };
        }
        match self.optional(value, false, warnings) {
            None => (Text::EMPTY, Some(Code::InvalidEventName)),
            Some(name) if name.is_empty() => (name, Some(Code::EmptyEventName)),
            Some(name) => (name, None),
        }
    }

    fn distinct_id(&mut self, raw: &RawEvent, warnings: &mut Warnings) -> Option<Text> {
        let bytes = self.text.as_bytes();
        let candidates = [
            raw[Root::DistinctId],
            raw[Root::DollarDistinctId],
            raw[Inner::DistinctId],
        ];
        let value = candidates.into_iter().find(|value| !value.is_null(bytes))?;
        let mut changes = Changes::default();
        let id = distinct_id::read(self.text, value, &mut changes)?;
        add_replaced(warnings, changes.replaced);
        if let Some(code_points) = changes.truncated {
            warnings.add_truncated(code_points);
        }
        Some(match id {
            Id::Slice(start, end) => Text::in_body(start, end),
            Id::Owned(text) => self.write(&text),
        })
    }

    /// The client's id: absent, or `Err` if it is none.
    fn uuid(&self, value: Value) -> Result<Option<Uuid>, ()> {
        if value.is_null(self.text.as_bytes()) {
            return Ok(None);
        }
        match text_of(self.text, value).as_deref() {
            None => Err(()),
            Some("") => Ok(None),
            Some(text) => uuids::parse(text).map(Some).ok_or(()),
        }
    }

    /// The library of a snapshot that names none, and its version, if that is not said.
    fn library(&mut self, version: Option<Text>) -> (Option<Text>, Option<Text>) {
        let Some(library) = self.context.sdk_info.as_deref() else {
            return (None, version);
        };
        let (name, its_version) = name_and_version(library);
        let name = self.write(name);
        let version = version.or_else(|| its_version.map(|version| self.write(version)));
        (Some(name), version)
    }

    /// What a snapshot of session replay lacks; what is in it is not looked at.
    fn snapshot_fault(&self, raw: &RawEvent) -> Option<Code> {
        let bytes = self.text.as_bytes();
        if !matches!(raw[Inner::SnapshotData].kind(bytes), b'[' | b'{') {
            return Some(Code::MissingSnapshotData);
        }
        let session_id = raw[Inner::SessionId];
        if session_id.is_null(bytes) {
            return Some(Code::MissingSessionId);
        }
        let is_id = |text: &str| {
            let mut letters = text.bytes();
            (1..=MAX_SESSION_ID_BYTES).contains(&text.len())
                && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'-')
        };
        let valid = text_of(self.text, session_id).is_some_and(|text| is_id(&text));
        (!valid).then_some(Code::InvalidSessionId)
    }

    /// When the event happened, and the timestamp as sent.
    pub(crate) fn timestamp(
        &mut self,
        value: Value,
        offset_ms: Option<i64>,
        ignore_sent_at: bool,
        warnings: &mut Warnings,
    ) -> (i64, Option<Text>) {
        let bytes = self.text.as_bytes();
        let mut claim = Claim {
            timestamp_us: None,
            offset_ms,
            ignore_sent_at,
        };
        let mut sent = None;
        if !value.is_null(bytes) {
            let text = if value.is_number(bytes) {
                Some(Text::in_body(value.start(), value.end()))
            } else {
                self.optional(value, false, warnings)
            };
            claim.timestamp_us = read_time(self.text, value);
            if claim.timestamp_us.is_none() {
                warnings.add(Warning::InvalidTimestamp);
            }
            sent = text;
        }
        let time = match timestamps::compute(claim, self.clocks) {
            Computed::Plain(time) => time,
            Computed::InFuture(time) => {
                warnings.add(Warning::TimestampInFuture);
                time
            }
            Computed::OutOfRange => {
                warnings.add(Warning::TimestampOutOfRange);
                0
            }
        };
        (time, sent)
    }

    /// The chain of an event's elements, and whether `$elements` goes out of its properties for it.
    ///
    /// A chain that the client made wins, as in PostHog's service; then its `$elements` say nothing
    /// more.
    pub(crate) fn elements_chain(
        &mut self,
        raw: &RawEvent,
        readable: bool,
        warnings: &mut Warnings,
    ) -> (Option<Text>, bool) {
        let own = self.optional(raw[Inner::ElementsChain], false, warnings);
        if !readable || raw[Inner::Elements].kind(self.text.as_bytes()) != b'[' {
            return (own, false);
        }
        if own.is_some_and(|chain| !chain.is_empty()) {
            return (own, true);
        }
        let chain = elements::write_chain(self.text, raw[Inner::Elements], &mut self.side);
        let Some(chain) = chain else {
            return (own, false);
        };
        if chain.lone_surrogate_replaced {
            warnings.add(Warning::LoneSurrogate);
        }
        (chain.text.or(own), true)
    }

    /// Whether the properties make the event an anonymous one.
    pub(crate) fn is_propertyless(&self, raw: &RawEvent, warnings: &mut Warnings) -> bool {
        match raw[Inner::ProcessPersonProfile].kind(self.text.as_bytes()) {
            b'f' => true,
            0 | b'n' | b't' => false,
            _ => {
                warnings.add(Warning::InvalidProcessPersonProfile);
                false
            }
        }
    }

    /// `$ip`: only where it is absent does the address of the request stand for it. In cookieless
    /// mode neither is stored, once the visitor has got an id.
    pub(crate) fn ip(
        &mut self,
        value: Value,
        cookieless: bool,
        warnings: &mut Warnings,
    ) -> ClientIp {
        if cookieless && self.context.cookieless {
            return ClientIp::Withheld;
        }
        if value.is_absent() {
            return ClientIp::Unsaid;
        }
        self.optional(value, false, warnings)
            .map_or(ClientIp::Withheld, ClientIp::Given)
    }

    /// The text of a string field; `None` if it is absent or of another type.
    pub(crate) fn optional(
        &mut self,
        value: Value,
        replace_nul: bool,
        warnings: &mut Warnings,
    ) -> Option<Text> {
        if !value.is_string(self.text.as_bytes()) {
            return None;
        }
        if !value.escaped() {
            return Some(Text::in_body(value.start() + 1, value.end() - 1));
        }
        let start = self.side.len();
        let literal = slice(self.text, value.start() + 1, value.end() - 1);
        add_replaced(warnings, unescape(literal, replace_nul, &mut self.side));
        Some(Text::in_side(start, self.side.len()))
    }

    pub(crate) fn write(&mut self, text: &str) -> Text {
        let start = self.side.len();
        self.side.push_str(text);
        Text::in_side(start, self.side.len())
    }
}

/// The text of a string value; `None` for anything else.
pub(crate) fn text_of(text: &str, value: Value) -> Option<Cow<'_, str>> {
    value
        .is_string(text.as_bytes())
        .then(|| Members::key_text(text, value))
}

pub(crate) fn add_replaced(warnings: &mut Warnings, replaced: Replaced) {
    if replaced.lone_surrogate {
        warnings.add(Warning::LoneSurrogate);
    }
    if replaced.nul {
        warnings.add(Warning::NulReplaced);
    }
}

/// Reads a time from a string or a number; microseconds since the Unix epoch.
pub(crate) fn read_time(text: &str, value: Value) -> Option<i64> {
    if value.is_number(text.as_bytes()) {
        return timestamps::parse_number(slice(text, value.start(), value.end()));
    }
    timestamps::parse(&text_of(text, value)?)
}

/// The `offset` of an event: milliseconds, cut to whole ones. Anything but a number is ignored.
fn offset_ms(text: &str, value: Value) -> Option<i64> {
    if !value.is_number(text.as_bytes()) {
        return None;
    }
    let number = slice(text, value.start(), value.end());
    if let Ok(offset) = number.parse() {
        return Some(offset);
    }
    let offset: f64 = number.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates; the result is range-checked"
    )]
    offset.is_finite().then_some(offset as i64)
}

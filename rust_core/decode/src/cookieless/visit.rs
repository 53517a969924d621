//! What an event of cookieless mode says of its visitor, and what follows from it.

use std::borrow::Cow;
use std::net::IpAddr;

use penstock_model::{BatchView, ClientIp, Code, Event, Refusal, VISITOR_DEVICE_ID_PREFIX, Visit};

use super::{Decision, Identify, is_nobody};
use crate::event::key_bytes;
use crate::json::{Members, Scanner, Value, slice};
use crate::verdict::text_of;

/// Events that say which two persons are one, which nobody can say of a visitor of a day.
const MERGING_EVENTS: [&str; 2] = ["$create_alias", "$merge_dangerously"];

/// Decides an accepted event. The inner error is what it is refused by.
pub(super) fn decide(
    view: &BatchView<'_>,
    event: &Event,
    client_address: Option<IpAddr>,
    identify: &mut Identify<'_>,
) -> Result<Result<Decision, Code>, Refusal> {
    if MERGING_EVENTS.contains(&view.get(event.event)) {
        return Ok(Err(Code::CookielessUnsupportedEvent));
    }
    let said = Said::read(view.get(event.raw));
    let named = view.get(event.distinct_id);
    if said.user_agent.is_none() && said.is_anonymous && !is_nobody(named) {
        return Ok(Ok(Decision::Anonymous));
    }
    let address = match event.ip {
        ClientIp::Given(ip) => Some(Cow::Borrowed(view.get(ip))),
        ClientIp::Unsaid => client_address.map(|address| Cow::Owned(address.to_string())),
        ClientIp::Withheld => None,
    };
    // In the order in which PostHog's service looks.
    let Some(user_agent) = filled(said.user_agent.as_ref()) else {
        return Ok(Err(Code::CookielessMissingUserAgent));
    };
    let Some(address) = filled(address.as_ref()) else {
        return Ok(Err(Code::CookielessMissingIp));
    };
    let Some(host) = filled(said.host.as_ref()) else {
        return Ok(Err(Code::CookielessMissingHost));
    };
    let visit = Visit {
        timestamp_us: event.timestamp_us,
        time_zone: said.time_zone.as_deref(),
        address,
        host,
        user_agent,
        extra: said.extra.as_deref().unwrap_or_default(),
    };
    identify(&visit).map(|ids| ids.map(Decision::Identified))
}

fn filled<'a>(text: Option<&'a Cow<'_, str>>) -> Option<&'a str> {
    text.map(AsRef::as_ref)
        .filter(|text| !text.trim().is_empty())
}

/// What the properties say that only this mode needs, so that no other event pays for it.
#[derive(Debug, Default)]
struct Said<'a> {
    user_agent: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    time_zone: Option<Cow<'a, str>>,
    extra: Option<Cow<'a, str>>,
    /// The id of its device was made of a visit.
    is_anonymous: bool,
}

impl<'a> Said<'a> {
    /// Reads an event's own text, brace to brace. Duplicate keys: the last one wins.
    fn read(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut properties = Value::ABSENT;
        for (key, value) in Members::new(bytes, whole(bytes)) {
            if *key_bytes(bytes, key) == *b"properties" {
                properties = value;
            }
        }
        let mut said = Self::default();
        if !properties.is_object(bytes) {
            return said;
        }
        for (key, value) in Members::new(bytes, properties) {
            let place = match &*key_bytes(bytes, key) {
                b"$raw_user_agent" => &mut said.user_agent,
                b"$host" => &mut said.host,
                b"$timezone" => &mut said.time_zone,
                b"$cookieless_extra" => {
                    let json = || Cow::Borrowed(slice(text, value.start(), value.end()));
                    said.extra =
                        (!value.is_null(bytes)).then(|| text_of(text, value).unwrap_or_else(json));
                    continue;
                }
                b"$device_id" => {
                    let device = text_of(text, value).unwrap_or_default();
                    said.is_anonymous = device.starts_with(VISITOR_DEVICE_ID_PREFIX);
                    continue;
                }
                _ => continue,
            };
            *place = text_of(text, value);
        }
        said
    }
}

/// The place of a text that is one object.
pub(super) fn whole(object: &[u8]) -> Value {
    debug_assert!(
        Scanner::new(object, 0, u32::MAX).value(0).is_ok(),
        "it was scanned before"
    );
    Value::new(0, object.len(), false)
}

//! One event of capture v1 by the oracle.

use penstock_model::{Code, Outcome, Warning};
use serde_json::value::RawValue;

use super::super::event::Changes;
use super::super::oracle::{Element, Fields, Properties, Reader};
use super::super::raw::{compact, is_null, kind, last, members_if_object, string};
use super::super::vocabulary::NOBODY;
use super::options::{self, Options};
use super::oracle::{Refused, is_true, sdk_of};
use super::time::{self, Claim, Time};

impl Reader<'_> {
    pub(super) fn v1_event(
        &self,
        element: &Element<'_>,
        uuid: u128,
        is_internal: bool,
    ) -> Result<(Fields, Option<Time>), Refused> {
        let own = |name: &'static str| last(&element.members, &[name]);
        let properties = own("properties");
        let members = members_if_object(properties);
        let inner = |name| last(&members, &[name]);
        let mut warnings = Vec::new();
        let mut warn = |warning, when: bool| warnings.extend(when.then_some(warning));
        let is_lone = |value: Option<&RawValue>| {
            string(value).is_some() && self.holds_lone_surrogate(value.unwrap())
        };
        warn(Warning::InvalidUtf8, self.repaired);

        let too_large = element.whole.get().len() > self.context.limits.max_event_bytes as usize;
        // Also of an event that is refused: what it says of its visitor must not be kept either.
        let options = options::read(own("options"));

        let id = own("distinct_id").filter(|id| !is_null(Some(id)));
        let text = match string(id) {
            Some(text) => text,
            None => id.map(|id| compact(id.get())).unwrap_or_default(),
        };
        let no_id = text.trim().is_empty();
        let lone_in_id = id.is_some_and(|id| self.holds_lone_surrogate(id));
        warn(Warning::LoneSurrogate, !no_id && lone_in_id);
        warn(Warning::NulReplaced, text.contains('\0'));
        let distinct_id = text.trim().replace('\0', "\u{fffd}");
        let nobody = NOBODY.contains(&distinct_id.to_ascii_lowercase().as_str());
        warn(Warning::PersonProcessingDisabled, nobody);

        let timestamp = own("timestamp");
        let claim = time::claim_of(timestamp).ok_or(Refused::UnknownTime)?;
        let ignore_sent_at = is_true(options.disable_skew_correction, inner("$ignore_sent_at"));
        warn(
            Warning::LoneSurrogate,
            is_lone(own("event")) || is_lone(timestamp),
        );

        let name = string(own("event"));
        let named = |is: fn(&str) -> bool| name.as_deref().is_some_and(is);
        let faults = [
            (too_large, Code::EventTooLarge),
            (element.too_deep, Code::EventTooDeep),
            (is_null(own("event")), Code::MissingEventName),
            (name.is_none(), Code::InvalidEventName),
            (named(str::is_empty), Code::EmptyEventName),
            (
                named(|name| name == "$performance_event"),
                Code::DroppedPerformanceEvent,
            ),
            (named(|name| name.len() > 200), Code::EventNameTooLong),
            (no_id, Code::MissingDistinctId),
            (distinct_id.len() > 200, Code::DistinctIdTooLarge),
            (
                matches!(claim, Claim::None | Claim::Unreadable),
                Code::InvalidEventTimestamp,
            ),
            (
                !matches!(kind(properties), 0 | b'n' | b'{'),
                Code::InvalidProperties,
            ),
            (options.is_unreadable, Code::InvalidOptions),
        ];
        let fault = faults.iter().find(|(found, _)| *found);
        let fault = fault.map(|(_, code)| *code);

        let mut texts = [const { None }; 7];
        let sdk = sdk_of(self.context.sdk_info.as_deref());
        let outside = |name, inner_name| {
            let outside = own(name).filter(|value| kind(Some(value)) == b'"');
            outside.or(inner(inner_name))
        };
        let mut sources = [
            outside("session_id", "$session_id"),
            outside("window_id", "$window_id"),
            inner("$lib"),
            inner("$lib_version"),
            inner("$elements_chain"),
            inner("$ip"),
        ];
        if let Some(parts) = &sdk {
            sources[2..4].fill(None);
            texts[2..4].clone_from_slice(&parts.clone().map(Some));
        }
        for (index, source) in sources.into_iter().enumerate() {
            let Some(text) = string(source) else { continue };
            warn(Warning::LoneSurrogate, is_lone(source));
            // Ids only: other texts keep their NUL.
            let replaced = index < 2 && text.contains('\0');
            warn(Warning::NulReplaced, replaced);
            texts[index] = Some(if replaced {
                text.replace('\0', "\u{fffd}")
            } else {
                text
            });
        }
        if is_internal && inner("$ip").is_none() {
            texts[5] = Some("127.0.0.1".to_owned());
        }

        let mut text = Properties::Text(String::new());
        if fault.is_none() {
            let (without_elements, lone) = self.take_elements(&members, &mut texts[4]);
            warn(Warning::LoneSurrogate, lone);
            let changes = Changes {
                without_elements,
                injected: injected(own, &options, sdk.as_ref()),
            };
            let (kept, lone) = self.properties(&element.members, &changes);
            text = kept;
            warn(
                Warning::LoneSurrogate,
                lone || is_lone(options.product_tour_id),
            );
        }
        let profile = kind(inner("$process_person_profile"));
        let is_odd = !matches!(profile, 0 | b'n' | b't' | b'f');
        warn(
            Warning::InvalidProcessPersonProfile,
            options.process_person_profile.is_none() && is_odd,
        );
        warnings.sort_by_key(|warning| *warning as u8);
        warnings.dedup();
        let fields = Fields {
            outcome: fault.map_or(Outcome::Accepted, Outcome::Rejected),
            raw: self.received(element.whole).to_owned(),
            event: name.unwrap_or_default(),
            distinct_id,
            uuid: Some(uuid),
            client_timestamp: match timestamp {
                Some(number) if matches!(kind(timestamp), b'-' | b'0'..=b'9') => {
                    Some(number.get().to_owned())
                }
                _ => string(timestamp),
            },
            properties: text,
            texts,
            propertyless: nobody || !options.process_person_profile.unwrap_or(profile != b'f'),
            // What can't be read may have been meant.
            cookieless: options.is_mode_unreadable
                || is_true(options.cookieless_mode, inner("$cookieless_mode")),
            warnings,
        };
        Ok((fields, time::compute(&claim, ignore_sent_at, self.context)))
    }
}

/// The members that capture v1 puts into the properties, as JSON.
fn injected<'a>(
    own: impl Fn(&'static str) -> Option<&'a RawValue>,
    options: &Options<'_>,
    sdk: Option<&[String; 2]>,
) -> Vec<(&'static str, String)> {
    let text = |value: Option<&RawValue>| {
        value
            .filter(|value| kind(Some(value)) == b'"')
            .map(|value| value.get().to_owned())
    };
    let tour = options.product_tour_id;
    let number = tour.map(|tour| format!("\"{}\"", tour.get()));
    let json = |text: &String| serde_json::to_string(text).unwrap();
    let members = [
        ("$session_id", text(own("session_id"))),
        ("$window_id", text(own("window_id"))),
        (
            "$cookieless_mode",
            options.cookieless_mode.map(|truth| truth.to_string()),
        ),
        (
            "$ignore_sent_at",
            options
                .disable_skew_correction
                .map(|truth| truth.to_string()),
        ),
        (
            "$process_person_profile",
            options
                .process_person_profile
                .map(|truth| truth.to_string()),
        ),
        ("$product_tour_id", text(tour).or(number)),
        ("$lib", sdk.map(|[name, _]| json(name))),
        ("$lib_version", sdk.map(|[_, version]| json(version))),
    ];
    let said = members.into_iter();
    said.filter_map(|(name, json)| json.map(|json| (name, json)))
        .collect()
}

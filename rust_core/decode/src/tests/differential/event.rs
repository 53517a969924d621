//! One event by the oracle: its fields, its outcome, its properties.

use penstock_model::{Code, Endpoint, Outcome, Warning};
use serde_json::value::RawValue;

use super::oracle::{Element, Fields, Properties, Reader, Token, token_of};
use super::raw::{
    Member, compact, elements, is_null, kind, last, members, members_if_object, sorted, string,
};

/// Keys whose objects at an event's root are merged into its properties.
const MERGED_KEYS: [&str; 3] = ["$set", "$set_once", "$groups"];

/// What happens to an event's properties besides the merges.
pub(super) struct Changes {
    pub(super) without_elements: bool,
    /// Names and values, as JSON, that take the place of members of the same names.
    pub(super) injected: Vec<(&'static str, String)>,
}

pub(super) fn parse_uuid(text: &str) -> Option<u128> {
    let braced = || text.strip_prefix('{')?.strip_suffix('}');
    let plain = braced().or_else(|| text.strip_prefix("urn:uuid:"));
    let hyphens: Vec<_> = plain
        .unwrap_or(text)
        .match_indices('-')
        .map(|(at, _)| at)
        .collect();
    let digits = plain.unwrap_or(text).replace('-', "");
    let hyphens_fit = hyphens == [8, 13, 18, 23] || hyphens.is_empty() && plain.is_none();
    let fits = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    (hyphens_fit && fits).then(|| u128::from_str_radix(&digits, 16).unwrap())
}

impl Reader<'_> {
    pub(super) fn event(&self, element: &Element<'_>, token: &Token) -> Fields {
        let own = |name| last(&element.members, &[name]);
        let properties = own("properties");
        let inner = members_if_object(properties);
        let inner = |name| last(&inner, &[name]);
        let mut warnings = Vec::new();
        let mut warn = |warning, when: bool| warnings.extend(when.then_some(warning));
        warn(Warning::InvalidUtf8, self.repaired);

        let too_large = element.whole.get().len() > self.context.limits.max_event_bytes as usize;
        let own_token = string(token_of(&element.members)).filter(|own| !own.trim().is_empty());
        let names_another = match own_token {
            Some(named) => names_other(&named, token),
            None => {
                token.by_event
                    && string(inner("token")).is_some_and(|named| names_other(&named, token))
            }
        };
        let name = match own("event") {
            name if !is_null(name) => string(name).ok_or(Code::InvalidEventName),
            _ => match self.context.endpoint {
                Endpoint::Engage => Ok("$identify".to_owned()),
                Endpoint::Recordings => Ok("$snapshot".to_owned()),
                _ => Err(Code::MissingEventName),
            },
        };
        let bad_properties = !matches!(kind(properties), 0 | b'n' | b'{');

        let ids = [
            own("distinct_id"),
            own("$distinct_id"),
            inner("distinct_id"),
        ];
        let id = ids.into_iter().find(|id| !is_null(*id)).flatten();
        let text = match string(id) {
            Some(text) => text,
            None => id.map(|id| compact(id.get())).unwrap_or_default(),
        };
        let no_id = text.trim().is_empty();
        warn(
            Warning::LoneSurrogate,
            !no_id && id.is_some_and(|id| self.holds_lone_surrogate(id)),
        );
        warn(Warning::NulReplaced, !no_id && text.contains('\0'));
        let text = text.replace('\0', "\u{fffd}");
        warn(Warning::DistinctIdTruncated, text.chars().count() > 200);
        let distinct_id = if no_id {
            String::new()
        } else {
            text.chars().take(200).collect()
        };

        let uuid = match own("uuid") {
            uuid if is_null(uuid) || string(uuid).is_some_and(|uuid| uuid.is_empty()) => Ok(None),
            uuid => string(uuid)
                .and_then(|uuid| parse_uuid(&uuid))
                .map(Some)
                .ok_or(()),
        };
        let is_upload = self.context.endpoint == Endpoint::Recordings;
        let data = last(
            &members_if_object(properties),
            &["$snapshot_data", "$snapshot_items"],
        );
        let faults = [
            (kind(Some(element.whole)) != b'{', Code::NotAnObject),
            (too_large, Code::EventTooLarge),
            (element.too_deep, Code::EventTooDeep),
            (names_another, Code::TokenMismatch),
            (
                name.is_err(),
                *name.as_ref().err().unwrap_or(&Code::EmptyEventName),
            ),
            (
                name.as_ref().is_ok_and(String::is_empty),
                Code::EmptyEventName,
            ),
            (bad_properties, Code::InvalidProperties),
            (no_id, Code::MissingDistinctId),
            (
                !matches!(kind(inner("$cookieless_mode")), 0 | b'n' | b't' | b'f'),
                Code::InvalidCookielessMode,
            ),
            (uuid.is_err(), Code::InvalidUuid),
            (
                is_upload && !matches!(kind(data), b'[' | b'{'),
                Code::MissingSnapshotData,
            ),
            (
                is_upload && is_null(inner("$session_id")),
                Code::MissingSessionId,
            ),
            (
                is_upload && !string(inner("$session_id")).is_some_and(|id| is_session_id(&id)),
                Code::InvalidSessionId,
            ),
        ];
        let fault = faults
            .iter()
            .find(|(found, _)| *found)
            .map(|(_, code)| *code);

        let texts = [
            "$session_id",
            "$window_id",
            "$lib",
            "$lib_version",
            "$elements_chain",
            "$ip",
            "$snapshot_source",
        ];
        let mut texts = texts.map(|name| {
            let unread = if is_upload {
                "$elements_chain"
            } else {
                "$snapshot_source"
            };
            let text = string(inner(name)).filter(|_| name != unread)?;
            warn(
                Warning::LoneSurrogate,
                self.holds_lone_surrogate(inner(name).unwrap()),
            );
            // Ids only: other texts keep their NUL.
            let replaced = name.ends_with("_id") && text.contains('\0');
            warn(Warning::NulReplaced, replaced);
            Some(if replaced {
                text.replace('\0', "\u{fffd}")
            } else {
                text
            })
        });
        if inner("$ip").is_none() && inner("capture_internal").is_some() {
            texts[5] = Some("127.0.0.1".to_owned());
        }
        let readable = !(too_large || element.too_deep || bad_properties);
        let (without_elements, is_lone) = if readable && !is_upload {
            self.take_elements(&members_if_object(properties), &mut texts[4])
        } else {
            (false, false)
        };
        warn(Warning::LoneSurrogate, is_lone);
        let profile = kind(inner("$process_person_profile"));
        warn(
            Warning::InvalidProcessPersonProfile,
            !matches!(profile, 0 | b'n' | b't' | b'f'),
        );
        let timestamp = own("timestamp");
        let is_number = matches!(kind(timestamp), b'-' | b'0'..=b'9');
        for read in [own("event"), timestamp] {
            let is_lone = string(read).is_some() && self.holds_lone_surrogate(read.unwrap());
            warn(Warning::LoneSurrogate, is_lone);
        }
        let (properties, is_lone) = if readable {
            let changes = Changes {
                without_elements,
                injected: Vec::new(),
            };
            self.properties(&element.members, &changes)
        } else {
            (Properties::Text(String::new()), false)
        };
        warn(Warning::LoneSurrogate, is_lone);
        warnings.sort_by_key(|warning| *warning as u8);
        warnings.dedup();
        Fields {
            outcome: fault.map_or(Outcome::Accepted, Outcome::Rejected),
            raw: self.received(element.whole).to_owned(),
            event: name.unwrap_or_default(),
            distinct_id,
            uuid: uuid.unwrap_or_default(),
            client_timestamp: match timestamp {
                Some(number) if is_number => Some(number.get().to_owned()),
                _ => string(timestamp),
            },
            properties,
            texts,
            propertyless: profile == b'f',
            // What can't be read may have been meant.
            cookieless: !is_upload && !matches!(kind(inner("$cookieless_mode")), 0 | b'n' | b'f'),
            warnings,
        }
    }

    /// Makes a chain of `$elements` if there is none. Tells whether they go out of the properties,
    /// and whether a lone surrogate was read in them.
    ///
    /// What is generated has none of the members that a chain names.
    pub(super) fn take_elements(
        &self,
        inner: &[Member<'_>],
        chain: &mut Option<String>,
    ) -> (bool, bool) {
        let list = last(inner, &["$elements"]).filter(|list| kind(Some(list)) == b'[');
        let Some(list) = list else {
            return (false, false);
        };
        if chain.as_ref().is_some_and(|chain| !chain.is_empty()) {
            return (true, false);
        }
        let elements = elements(list);
        let made = vec![r#":nth-child="0"nth-of-type="0""#; elements.len()].join(";");
        let all_objects = elements.iter().all(|element| kind(Some(element)) == b'{');
        if !all_objects || made.len() > list.get().len() * 2 + 64 {
            return (false, false);
        }
        let mut keys = elements.iter().flat_map(|element| members(element));
        let is_lone = keys.any(|member| self.holds_lone_surrogate(member.key));
        if !elements.is_empty() {
            *chain = Some(made);
        }
        (true, is_lone)
    }

    /// What of an event goes into its properties, and whether lone surrogates were in that.
    pub(super) fn properties(&self, event: &[Member<'_>], changes: &Changes) -> (Properties, bool) {
        let Changes {
            without_elements,
            injected,
        } = changes;
        let own = last(event, &["properties"]).filter(|own| kind(Some(own)) == b'{');
        let roots = MERGED_KEYS.map(|key| (key, members_if_object(last(event, &[key]))));
        let unchanged = !without_elements && injected.is_empty();
        if unchanged && roots.iter().all(|(_, root)| root.is_empty()) {
            let text = own.map_or("{}", RawValue::get).to_owned();
            return (
                Properties::Text(text),
                own.is_some_and(|own| self.holds_lone_surrogate(own)),
            );
        }
        let own = members_if_object(own);
        let roots: Vec<_> = roots
            .into_iter()
            .filter(|(_, root)| !root.is_empty())
            .collect();
        let keys: Vec<_> = roots.iter().map(|(key, _)| *key).collect();
        let inside: Vec<_> = keys
            .iter()
            .map(|key| members_if_object(last(&own, &[key])))
            .collect();
        let mut kept: Vec<(&str, &Member<'_>)> = Vec::new();
        for ((key, root), inside) in roots.iter().zip(&inside) {
            let shadowed = |name: &str| root.iter().any(|member| member.name == name);
            let inside = inside.iter().filter(|member| !shadowed(&member.name));
            kept.extend(inside.chain(root).map(|member| (*key, member)));
        }
        let others = own.iter().filter(|member| {
            let goes = *without_elements && member.name == "$elements"
                || injected.iter().any(|(name, _)| member.name == *name);
            !goes && !keys.contains(&member.name.as_str())
        });
        kept.extend(others.map(|member| ("", member)));
        let is_lone = kept.iter().any(|(_, member)| {
            self.holds_lone_surrogate(member.key) || self.holds_lone_surrogate(member.value)
        });
        let members = kept.into_iter().map(|(key, member)| {
            let value = member.value.get().to_owned();
            match key {
                "" => [member.name.clone(), String::new(), value],
                _ => [key.to_owned(), member.name.clone(), value],
            }
        });
        let injected = injected
            .iter()
            .map(|(name, json)| [(*name).to_owned(), String::new(), json.clone()]);
        let members = sorted(members.chain(injected).collect());
        (Properties::Merged { keys, members }, is_lone)
    }
}

fn is_session_id(text: &str) -> bool {
    let is_letter = |letter: char| letter == '-' || letter.is_ascii_alphanumeric();
    (1..=70).contains(&text.len()) && text.chars().all(is_letter)
}

/// A blank token names nothing.
fn names_other(named: &str, token: &Token) -> bool {
    !named.trim().is_empty() && named.trim() != token.text
}

//! What becomes of visitors by the oracle (`posthog-protocol.md` §3.5): who gets ids, and the text
//! that takes the place of the body.

use std::collections::HashMap;
use std::net::IpAddr;

use penstock_model::{Code, Outcome, RequestContext, VisitorIds};
use serde_json::value::RawValue;

use super::super::oracle::{Element, Fields, Json, Reader};
use super::super::raw::{elements, is_null, kind, last, members, members_if_object, string};

const NOBODY: &str = "$posthog_cookieless";

const PRIVATE: [&str; 4] = [
    "$ip",
    "$raw_user_agent",
    "$initial_raw_user_agent",
    "$cookieless_extra",
];

/// A body as it should be written anew.
pub(super) struct Rewritten {
    pub(super) text: String,
    pub(super) outcomes: Vec<Outcome>,
    /// In the order in which ids are asked for.
    pub(super) visits: Vec<Visit>,
    pub(super) needs_address: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) time_zone: Option<String>,
    pub(super) address: String,
    pub(super) host: String,
    pub(super) user_agent: String,
    pub(super) extra: String,
}

/// What the ids of the visit of an index are.
pub(super) type Identify = fn(usize) -> Result<VisitorIds, Code>;

/// Writes a body anew whose events read as `events`.
pub(super) fn rewrite(
    body: &[u8],
    context: &RequestContext,
    events: &[Fields],
    identify: Identify,
) -> Rewritten {
    let json = Json::of(body).unwrap();
    json.reader(context).rewrite(events, identify)
}

impl Reader<'_> {
    fn rewrite(&self, events: &[Fields], identify: Identify) -> Rewritten {
        let document = self.document().unwrap();
        // What takes the place of each event, by where that begins.
        let mut instead = HashMap::new();
        let (mut outcomes, mut visits) = (Vec::new(), Vec::new());
        for (element, event) in document.elements.iter().zip(events) {
            let start = self.place(element.whole).start;
            if !event.cookieless {
                instead.insert(start, self.received(element.whole).to_owned());
                outcomes.push(event.outcome);
                continue;
            }
            let visit = match event.outcome {
                Outcome::Rejected(code) => Err(code),
                _ => self.visit(element, event),
            };
            let ids = visit.and_then(|visit| {
                let Some(visit) = visit else { return Ok(None) };
                visits.push(visit);
                identify(visits.len() - 1).map(Some)
            });
            let text = match &ids {
                Ok(Some(ids)) => self.with_ids(element, ids),
                Ok(None) | Err(_) => self.stripped(element.whole, &HashMap::new()),
            };
            instead.insert(start, text);
            outcomes.push(ids.map_or_else(Outcome::Rejected, |_| Outcome::Accepted));
        }
        let root: &RawValue = serde_json::from_str(self.replaced).unwrap();
        let text = self.stripped(root, &instead);
        let needs_address = events
            .iter()
            .any(|event| !event.cookieless && event.outcome == Outcome::Accepted);
        Rewritten {
            text,
            outcomes,
            visits,
            needs_address,
        }
    }

    /// What ids are made of; `None` if the event has them already.
    fn visit(&self, element: &Element<'_>, event: &Fields) -> Result<Option<Visit>, Code> {
        if ["$create_alias", "$merge_dangerously"].contains(&event.event.as_str()) {
            return Err(Code::CookielessUnsupportedEvent);
        }
        let properties = members_if_object(last(&element.members, &["properties"]));
        let said = |name| last(&properties, &[name]);
        let device = string(said("$device_id")).unwrap_or_default();
        let has_ids = device.starts_with("cookielessd_") && event.distinct_id.trim() != NOBODY;
        let user_agent = string(said("$raw_user_agent"));
        if user_agent.is_none() && has_ids {
            return Ok(None);
        }
        // An address that is no text is none, and no other stands for it.
        let of_client = || match said("$ip") {
            None => self.context.client_address.map(|ip: IpAddr| ip.to_string()),
            Some(_) => None,
        };
        let address = event.texts[5].clone().or_else(of_client);
        let filled =
            |text: Option<String>, code| text.filter(|text| !text.trim().is_empty()).ok_or(code);
        let extra = said("$cookieless_extra").filter(|extra| !is_null(Some(extra)));
        Ok(Some(Visit {
            user_agent: filled(user_agent, Code::CookielessMissingUserAgent)?,
            address: filled(address, Code::CookielessMissingIp)?,
            host: filled(string(said("$host")), Code::CookielessMissingHost)?,
            time_zone: string(said("$timezone")),
            extra: match (string(extra), extra) {
                (Some(text), _) => text,
                (None, Some(json)) => self.received(json).to_owned(),
                (None, None) => String::new(),
            },
        }))
    }

    /// A value without private members, wherever they stand, but for the events in it.
    fn stripped(&self, value: &RawValue, instead: &HashMap<usize, String>) -> String {
        if let Some(event) = instead.get(&self.place(value).start) {
            return event.clone();
        }
        match kind(Some(value)) {
            b'{' => {
                let kept = members(value).into_iter();
                let kept = kept.filter(|member| !PRIVATE.contains(&member.name.as_str()));
                let kept = kept
                    .map(|member| self.member(member.key, &self.stripped(member.value, instead)));
                object(kept)
            }
            b'[' => {
                let kept = elements(value).into_iter();
                let kept: Vec<_> = kept
                    .map(|element| self.stripped(element, instead))
                    .collect();
                format!("[{}]", kept.join(","))
            }
            _ => self.received(value).to_owned(),
        }
    }

    fn member(&self, key: &RawValue, value: &str) -> String {
        format!("{}:{value}", self.received(key))
    }

    fn with_ids(&self, event: &Element<'_>, ids: &VisitorIds) -> String {
        let kept = event.members.iter().filter_map(|member| {
            let value = match member.name.as_str() {
                name if PRIVATE.contains(&name) => return None,
                "session_id" => return None,
                "distinct_id" | "$distinct_id" if is_nobody(member.value) => {
                    format!("\"{}\"", ids.distinct_id)
                }
                "properties" if kind(Some(member.value)) == b'{' => {
                    self.properties_with_ids(member.value, ids)
                }
                _ => self.stripped(member.value, &HashMap::new()),
            };
            Some(self.member(member.key, &value))
        });
        object(kept)
    }

    fn properties_with_ids(&self, properties: &RawValue, ids: &VisitorIds) -> String {
        let members = members(properties);
        let kept = members.iter().filter_map(|member| {
            let value = match member.name.as_str() {
                name if PRIVATE.contains(&name) => return None,
                "$device_id" | "$session_id" => return None,
                "$anon_distinct_id" if is_nobody(member.value) => return None,
                "distinct_id" | "$distinct_id" if is_nobody(member.value) => {
                    format!("\"{}\"", ids.distinct_id)
                }
                _ => self.stripped(member.value, &HashMap::new()),
            };
            Some(self.member(member.key, &value))
        });
        let own = [
            format!("\"$device_id\":\"{}\"", ids.device_id),
            format!("\"$session_id\":\"{}\"", ids.session_id),
        ];
        object(kept.chain(own))
    }
}

fn object(members: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// White space around it makes nobody somebody: capture v1 has ids trimmed.
fn is_nobody(value: &RawValue) -> bool {
    string(Some(value)).is_some_and(|id| id.trim() == NOBODY)
}

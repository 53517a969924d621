//! Capture v1 by the oracle (`posthog-protocol.md` §4.4): the request and what is told of it.

use std::collections::HashSet;

use penstock_model::{Code, Outcome, RequestContext, Warning};
use serde_json::value::RawValue;

use super::super::event::parse_uuid;
use super::super::oracle::{Element, Json, Reader, Request, Shape};
use super::super::raw::{kind, last, string};
use super::time::{self, Claim, Time};

/// A request as it should be read.
#[derive(Debug)]
pub(in super::super) struct Expected {
    pub(in super::super) request: Request,
    /// Of each event; `None` where only the decoder can tell.
    pub(super) times: Vec<Option<Time>>,
    /// The answer once everything is stored, and if nothing could be.
    pub(super) answers: [String; 2],
}

#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Refused {
    Whole(Code),
    /// For what is wrong with one event.
    ByEvent(Code, usize),
    /// By nobody: a time in it was damaged to a text of which only the decoder knows what it means.
    UnknownTime,
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self::Whole(code)
    }
}

/// Reads a body that is not compressed.
pub(in super::super) fn read(body: &[u8], context: &RequestContext) -> Result<Expected, Refused> {
    Json::of(body)?.reader(context).v1_request()
}

impl Reader<'_> {
    fn v1_request(&self) -> Result<Expected, Refused> {
        let document = self.document()?;
        if document.shape != Shape::Batch {
            return Err(Code::UnsupportedShape.into());
        }
        let of_batch = |name| last(&document.members, &[name]);
        let created_at = string(of_batch("created_at")).ok_or(Code::InvalidBatch)?;
        match time::claim_of_text(&created_at).ok_or(Refused::UnknownTime)? {
            Claim::None | Claim::Unreadable => return Err(Code::InvalidBatch.into()),
            Claim::At(_) | Claim::Readable => {}
        }
        let uuids = uuids(&document.elements)?;
        let is_internal = kind(of_batch("capture_internal")) == b't';
        let (mut events, mut times) = (Vec::new(), Vec::new());
        for (element, uuid) in document.elements.iter().zip(uuids) {
            let (event, time) = self.v1_event(element, uuid, is_internal)?;
            events.push(event);
            times.push(time);
        }
        let request = Request {
            token: self.context.token.clone().unwrap_or_default(),
            historical: kind(of_batch("historical_migration")) == b't',
            events,
        };
        Ok(Expected {
            answers: [true, false].map(|persisted| answer(&request, persisted)),
            request,
            times,
        })
    }
}

/// The ids of all events: without them nothing could be answered.
fn uuids(elements: &[Element<'_>]) -> Result<Vec<u128>, Refused> {
    let mut uuids = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let sent = string(last(&element.members, &["uuid"])).unwrap_or_default();
        if sent.trim().is_empty() {
            return Err(Refused::ByEvent(Code::MissingEventUuid, index));
        }
        let uuid = parse_uuid(sent.trim());
        uuids.push(uuid.ok_or(Refused::ByEvent(Code::InvalidEventUuid, index))?);
    }
    let mut seen = HashSet::new();
    match uuids.iter().position(|uuid| !seen.insert(*uuid)) {
        Some(index) => Err(Refused::ByEvent(Code::DuplicateEventUuid, index)),
        None => Ok(uuids),
    }
}

fn answer(request: &Request, persisted: bool) -> String {
    let results = request.events.iter().map(|event| {
        let hex = format!("{:032x}", event.uuid.unwrap());
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap());
        let nobody = event.warnings.contains(&Warning::PersonProcessingDisabled);
        let (result, details) = match event.outcome {
            Outcome::Rejected(code) => ("drop", name_of(code)),
            _ if !persisted => ("retry", "not_persisted"),
            _ if nobody => ("ok", "person_processing_disabled"),
            _ => ("ok", ""),
        };
        let details = match details {
            "" => String::new(),
            details => format!(r#","details":"{details}""#),
        };
        format!(r#""{}":{{"result":"{result}"{details}}}"#, parts.join("-"))
    });
    format!(
        r#"{{"results":{{{}}}}}"#,
        results.collect::<Vec<_>>().join(",")
    )
}

/// What the protocol calls a fault: mostly as we do.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::EmptyEventName => Code::MissingEventName.as_str(),
        Code::InvalidProperties => "malformed_event_properties",
        Code::EventTooLarge => "event_too_big",
        other => other.as_str(),
    }
}

/// The name and the version in what the client's header says of itself.
pub(super) fn sdk_of(sdk_info: Option<&str>) -> Option<[String; 2]> {
    let sdk_info = sdk_info.filter(|text| {
        text.len() <= 200 && text.chars().all(|letter| matches!(letter, ' '..='~'))
    })?;
    let (name, version) = sdk_info.rsplit_once('/')?;
    let parts = [name, version].map(|part| part.trim().to_owned());
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// Of an option or of the member of the properties that it stands for.
pub(super) fn is_true(option: Option<bool>, member: Option<&RawValue>) -> bool {
    option.unwrap_or(kind(member) == b't')
}

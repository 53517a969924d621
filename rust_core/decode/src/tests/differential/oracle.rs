//! The same request, read with `serde_json` instead of our reader.
//!
//! `serde_json` decides what is JSON, where each key and value begins and ends, and what a string
//! means. What it can't know stands here once more, straight from the protocol: which value is
//! which field of an event, and which events are taken.

use std::ops::Range;

use penstock_model::{Code, Endpoint, Outcome, RequestContext, Warning};
use serde_json::value::RawValue;

use super::raw::{
    Member, depth, elements, kind, last, members_if_object, replace_lone_surrogates, string,
};
use crate::check_token;

/// A request as it should be read. Times are left out: no JSON is in them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) token: String,
    pub(super) historical: bool,
    pub(super) events: Vec<Fields>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) outcome: Outcome,
    pub(super) raw: String,
    pub(super) event: String,
    pub(super) distinct_id: String,
    /// The client's own.
    pub(super) uuid: Option<u128>,
    pub(super) client_timestamp: Option<String>,
    pub(super) properties: Properties,
    /// `$session_id`, `$window_id`, `$lib`, `$lib_version`, `$elements_chain`, `$ip`,
    /// `$snapshot_source`.
    pub(super) texts: [Option<String>; 7],
    pub(super) propertyless: bool,
    pub(super) cookieless: bool,
    pub(super) warnings: Vec<Warning>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Properties {
    /// To the byte.
    Text(String),
    /// Objects at the root were merged in, under `keys`: members as [`flatten`] gives them.
    Merged {
        keys: Vec<&'static str>,
        members: Vec<[String; 3]>,
    },
}

pub(super) fn token_of<'a>(object: &[Member<'a>]) -> Option<&'a RawValue> {
    const NAMES: [&str; 3] = ["token", "$token", "api_key"];
    let named = |member: &&Member<'_>| {
        NAMES.contains(&member.name.as_str()) && is_named(string(Some(member.value)).as_ref())
    };
    match object.iter().rfind(named) {
        Some(member) => Some(member.value),
        None => last(object, &NAMES),
    }
}

pub(super) fn is_named(token: Option<&String>) -> bool {
    token.is_some_and(|token| !token.trim().is_empty())
}

/// Reads a body that is not compressed.
pub(super) fn read(body: &[u8], context: &RequestContext) -> Result<Request, Code> {
    Json::of(body)?.reader(context).request()
}

/// The text of a body that is JSON.
pub(super) struct Json {
    received: String,
    replaced: String,
    repaired: bool,
}

impl Json {
    pub(super) fn of(body: &[u8]) -> Result<Self, Code> {
        let received = String::from_utf8_lossy(body);
        let repaired = received.as_bytes() != body;
        let received = received.strip_prefix('\u{feff}').unwrap_or(&received);
        if received.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return Err(Code::MissingPayload);
        }
        // Raw values take lone surrogates, so whether it is JSON is asked of the text as it came.
        if serde_json::from_str::<&RawValue>(received).is_err() {
            return Err(Code::InvalidJson);
        }
        Ok(Self {
            replaced: replace_lone_surrogates(received),
            received: received.to_owned(),
            repaired,
        })
    }

    pub(super) fn reader<'a>(&'a self, context: &'a RequestContext) -> Reader<'a> {
        Reader {
            received: &self.received,
            replaced: &self.replaced,
            context,
            repaired: self.repaired,
        }
    }
}

pub(super) struct Reader<'a> {
    pub(super) received: &'a str,
    /// Without lone surrogates.
    pub(super) replaced: &'a str,
    pub(super) context: &'a RequestContext,
    pub(super) repaired: bool,
}

pub(super) struct Element<'a> {
    pub(super) whole: &'a RawValue,
    pub(super) members: Vec<Member<'a>>,
    pub(super) too_deep: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    Array,
    Batch,
}

/// A request by its parts.
pub(super) struct Document<'a> {
    pub(super) shape: Shape,
    /// Of the root, if that is an object.
    pub(super) members: Vec<Member<'a>>,
    /// The events, at least one.
    pub(super) elements: Vec<Element<'a>>,
}

pub(super) struct Token {
    pub(super) text: String,
    /// Named by an event only.
    pub(super) by_event: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn document(&self) -> Result<Document<'a>, Code> {
        let root: &RawValue = serde_json::from_str(self.replaced).unwrap();
        let max_depth = self.context.limits.max_json_depth;
        let element = |whole: &'a RawValue, depth: u32| Element {
            whole,
            members: members_if_object(Some(whole)),
            too_deep: depth > max_depth,
        };
        let members = members_if_object(Some(root));
        let batch = last(&members, &["batch"]);
        let (shape, elements): (_, Vec<_>) = if kind(Some(root)) == b'[' {
            let wholes = elements(root).into_iter();
            let events = wholes.map(|whole| element(whole, 1 + depth(whole.get())));
            (Shape::Array, events.collect())
        } else if kind(Some(root)) != b'{' {
            return Err(Code::UnsupportedShape);
        } else {
            // What stands in a batch is judged by itself, even if a duplicate has made it void.
            let outside = members.iter().map(|member| match member.name.as_str() {
                "batch" if kind(Some(member.value)) == b'[' => 2,
                _ => 1 + depth(member.value.get()),
            });
            let outside = outside.max().unwrap_or(1);
            match batch {
                Some(batch) if kind(Some(batch)) == b'[' => {
                    if outside > max_depth {
                        return Err(Code::RequestTooDeep);
                    }
                    let wholes = elements(batch).into_iter();
                    let events = wholes.map(|whole| element(whole, 2 + depth(whole.get())));
                    (Shape::Batch, events.collect())
                }
                Some(_) if last(&members, &["event"]).is_none() => {
                    return Err(Code::UnsupportedShape);
                }
                _ => (Shape::Single, vec![element(root, outside)]),
            }
        };
        if elements.is_empty() {
            return Err(Code::NoEvents);
        }
        Ok(Document {
            shape,
            members,
            elements,
        })
    }

    fn request(&self) -> Result<Request, Code> {
        let Document {
            shape,
            members,
            elements,
        } = self.document()?;
        let batch_token = match shape {
            Shape::Batch => token_of(&members),
            Shape::Single | Shape::Array => None,
        };
        let token = self.token(batch_token, shape == Shape::Single, &elements)?;
        let historical = kind(last(&members, &["historical_migration"])) == b't';
        let events = elements
            .iter()
            .map(|element| self.event(element, &token))
            .collect();
        Ok(Request {
            token: token.text,
            historical,
            events,
        })
    }

    fn token(
        &self,
        batch_token: Option<&RawValue>,
        is_single: bool,
        elements: &[Element<'_>],
    ) -> Result<Token, Code> {
        if let Some(outside) = &self.context.token {
            let of_body = if is_single {
                token_of(&elements[0].members)
            } else {
                batch_token
            };
            let names_other = |own: &str| !own.trim().is_empty() && own.trim() != outside;
            let conflict = string(of_body).is_some_and(|own| names_other(&own));
            let token = Token {
                text: outside.clone(),
                by_event: false,
            };
            return if conflict {
                Err(Code::ConflictingTokens)
            } else {
                Ok(token)
            };
        }
        let of_events = elements.iter().flat_map(|element| {
            let properties = members_if_object(last(&element.members, &["properties"]));
            let own = string(token_of(&element.members));
            let inner = if is_named(own.as_ref()) {
                None
            } else {
                string(last(&properties, &["token"]))
            };
            [own, inner].map(|token| token.map(|token| (token, true)))
        });
        let of_events = of_events.flatten();
        let named = string(batch_token)
            .map(|token| (token, false))
            .into_iter()
            .chain(of_events);
        let named: Vec<_> = named.collect();
        for (token, by_event) in &named {
            if let Ok(token) = check_token(token) {
                return Ok(Token {
                    text: token.to_owned(),
                    by_event: *by_event,
                });
            }
        }
        // Without any token it may not be a request at all; then that is what is said.
        let no_object = elements
            .iter()
            .all(|element| kind(Some(element.whole)) != b'{');
        let not_an_event = last(&elements[0].members, &["event", "distinct_id"]).is_none()
            && !matches!(
                self.context.endpoint,
                Endpoint::Engage | Endpoint::Recordings
            );
        Err(if !named.is_empty() {
            Code::InvalidToken
        } else if no_object && elements.iter().any(|element| element.too_deep) {
            Code::RequestTooDeep
        } else if no_object || is_single && not_an_event {
            Code::UnsupportedShape
        } else {
            Code::MissingToken
        })
    }

    /// Where a part of the request stands.
    pub(super) fn place(&self, part: &RawValue) -> Range<usize> {
        let start = part.get().as_ptr().addr() - self.replaced.as_ptr().addr();
        start..start + part.get().len()
    }

    /// A part of the request as it was received.
    pub(super) fn received(&self, part: &RawValue) -> &str {
        self.received.get(self.place(part)).unwrap()
    }

    pub(super) fn holds_lone_surrogate(&self, part: &RawValue) -> bool {
        self.received(part) != part.get()
    }
}

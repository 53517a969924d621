//! A span as both encodings give it, and what its attributes say: of which kind it is, and whose.
//!
//! Names of attributes come from OpenTelemetry's conventions for generative AI (`gen_ai.`) and from
//! the SDKs that have their own: Vercel's (`ai.`), Eve (`eve.`), Pydantic AI, `OpenLLMetry` (`traceloop.`,
//! `llm.`). The lists are those of PostHog's service, so that a span becomes the same event there and
//! here.

use std::borrow::Cow;

use penstock_model::Refusal;

use super::MAX_ATTRIBUTES;
use super::any::Any;

const GENERATION: &str = "$ai_generation";
const EMBEDDING: &str = "$ai_embedding";
const OTHER: &str = "$ai_span";

const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
const VERCEL_OPERATION: &str = "ai.operationId";
const TRACELOOP_REQUEST: &str = "llm.request.type";

/// Attributes that name the user, the strongest first. Those of a span come before those of its
/// resource, since one process serves many users.
const SPAN_USER_KEYS: [&str; 4] = [
    "ai.telemetry.metadata.posthog_distinct_id",
    "ai.settings.context.posthog_distinct_id",
    "posthog.distinct_id",
    "user.id",
];
const RESOURCE_USER_KEYS: [&str; 2] = ["posthog.distinct_id", "user.id"];

/// Attributes that name a session, in which several traces belong to one unknown user.
const SESSION_KEYS: [&str; 6] = [
    "$ai_session_id",
    "ai.telemetry.metadata.$ai_session_id",
    "ai.settings.context.$ai_session_id",
    "eve.session.id",
    "anthropic.session.id",
    "gen_ai.conversation.id",
];

/// Called with each span of an export and what it stands under. Errors end the reading.
pub(super) type TakeSpan<'t> = &'t mut dyn FnMut(&Resource<'_>, &Span<'_>) -> Result<(), Refusal>;

#[derive(Debug)]
pub(super) struct Attribute<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Any<'a>,
}

/// Attributes in their order.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    pub(super) all: Vec<Attribute<'a>>,
    /// More came than [`MAX_ATTRIBUTES`].
    pub(super) too_many: bool,
}

impl<'a> Attributes<'a> {
    pub(super) fn add(&mut self, attribute: Attribute<'a>) {
        if self.all.len() < MAX_ATTRIBUTES {
            self.all.push(attribute);
        } else {
            self.too_many = true;
        }
    }

    /// The last value with this key.
    fn get(&self, key: &str) -> Option<&Any<'a>> {
        let mut newest_first = self.all.iter().rev();
        let found = newest_first.find(|attribute| attribute.key == key);
        found.map(|attribute| &attribute.value)
    }

    /// The same if it is a text that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    fn any_begins(&self, prefixes: &[&str]) -> bool {
        self.all.iter().any(|attribute| {
            let key = &attribute.key;
            prefixes.iter().any(|prefix| key.starts_with(prefix))
        })
    }
}

/// What the spans of one scope have in common.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    pub(super) attributes: Attributes<'a>,
    /// Version of the library that made the spans.
    pub(super) scope_version: Cow<'a, str>,
}

#[derive(Debug, Default)]
#[expect(
    clippy::struct_field_names,
    reason = "as the message definition has them"
)]
pub(super) struct Span<'a> {
    pub(super) trace_id: Cow<'a, [u8]>,
    pub(super) span_id: Cow<'a, [u8]>,
    pub(super) parent_span_id: Cow<'a, [u8]>,
    pub(super) name: Cow<'a, str>,
    /// Nanoseconds since the Unix epoch; 0: unknown.
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Attributes<'a>,
    pub(super) is_error: bool,
    pub(super) status_message: Cow<'a, str>,
    /// The last one that was noted.
    pub(super) exception: Option<Exception<'a>>,
}

/// An exception that a span notes among its events.
#[derive(Debug, Default)]
pub(super) struct Exception<'a> {
    named: bool,
    kind: Option<Any<'a>>,
    message: Option<Any<'a>>,
}

impl<'a> Exception<'a> {
    pub(super) fn note_name(&mut self, name: &str) {
        self.named = name == "exception";
    }

    pub(super) fn note(&mut self, key: &str, value: Any<'a>) {
        match key {
            "exception.type" => self.kind = Some(value),
            "exception.message" => self.message = Some(value),
            _ => {}
        }
    }

    /// Whether what was noted is an exception at all.
    pub(super) fn is_one(&self) -> bool {
        self.named || self.kind.is_some() || self.message.is_some()
    }

    fn text(&self) -> Option<String> {
        let kind = self.kind.as_ref().and_then(Any::as_text);
        let message = self.message.as_ref().and_then(Any::as_text);
        match (kind, message) {
            (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
            (one, other) => one.or(other).map(str::to_owned),
        }
    }
}

impl Span<'_> {
    /// The event that the span is; `None` if it isn't about AI.
    pub(super) fn event_name(&self) -> Option<&'static str> {
        let attributes = &self.attributes;
        let text = |key| attributes.text(key);
        if attributes.any_begins(&["ai.", "eve."]) {
            // Newer SDKs of Vercel say the operation as the convention has it.
            let operation = text(VERCEL_OPERATION).map(vercel_operation);
            let standard = || text(GEN_AI_OPERATION).map(gen_ai_operation);
            return Some(operation.or_else(standard).unwrap_or(OTHER));
        }
        if attributes.any_begins(&["pydantic_ai."]) {
            return Some(OTHER);
        }
        if attributes.any_begins(&["traceloop.", TRACELOOP_REQUEST]) {
            return Some(text(TRACELOOP_REQUEST).map_or(OTHER, traceloop_request));
        }
        if attributes.any_begins(&["gen_ai."]) {
            return Some(text(GEN_AI_OPERATION).map_or(OTHER, gen_ai_operation));
        }
        None
    }

    /// The user whom the span or its resource names.
    pub(super) fn user<'s>(&'s self, resource: &'s Resource<'_>) -> Option<&'s str> {
        let of_span = || {
            SPAN_USER_KEYS
                .iter()
                .find_map(|key| self.attributes.text(key))
        };
        let of_resource = || {
            let attributes = &resource.attributes;
            RESOURCE_USER_KEYS
                .iter()
                .find_map(|key| attributes.text(key))
        };
        of_span().or_else(of_resource)
    }

    /// The session that the span or its resource names.
    pub(super) fn session<'s>(&'s self, resource: &'s Resource<'_>) -> Option<&'s str> {
        SESSION_KEYS.iter().find_map(|key| {
            let of_span = self.attributes.text(key);
            of_span.or_else(|| resource.attributes.text(key))
        })
    }

    /// What went wrong, if anything did.
    pub(super) fn error(&self) -> Option<String> {
        if !self.is_error {
            return None;
        }
        let of_exception = self.exception.as_ref().and_then(Exception::text);
        Some(of_exception.unwrap_or_else(|| self.status_message.clone().into_owned()))
    }
}

fn gen_ai_operation(operation: &str) -> &'static str {
    match operation {
        "chat" => GENERATION,
        "embeddings" => EMBEDDING,
        _ => OTHER,
    }
}

fn vercel_operation(operation: &str) -> &'static str {
    match operation {
        "ai.embed.doEmbed" | "ai.embedMany.doEmbed" => EMBEDDING,
        _ if operation.ends_with(".doGenerate") || operation.ends_with(".doStream") => GENERATION,
        _ => OTHER,
    }
}

fn traceloop_request(kind: &str) -> &'static str {
    match kind {
        "chat" | "completion" => GENERATION,
        "embedding" | "embeddings" => EMBEDDING,
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_of(attributes: &[(&'static str, &'static str)]) -> Option<&'static str> {
        let mut span = Span::default();
        for (key, value) in attributes {
            span.attributes.add(Attribute {
                key: Cow::Borrowed(key),
                value: Any::Text(Cow::Borrowed(value)),
            });
        }
        span.event_name()
    }

    #[test]
    fn a_span_is_told_by_its_attributes() {
        for (attributes, expected) in [
            (&[][..], None),
            (&[("http.request.method", "POST")], None),
            (&[("gen_ai", "chat"), ("aim.x", "y"), ("llm.x", "y")], None),
            (&[(GEN_AI_OPERATION, "chat")], Some(GENERATION)),
            (&[(GEN_AI_OPERATION, "embeddings")], Some(EMBEDDING)),
            (&[(GEN_AI_OPERATION, "execute_tool")], Some(OTHER)),
            (&[("gen_ai.request.model", "m")], Some(OTHER)),
            // Of duplicates the last one.
            (
                &[(GEN_AI_OPERATION, "chat"), (GEN_AI_OPERATION, "embeddings")],
                Some(EMBEDDING),
            ),
            (
                &[(VERCEL_OPERATION, "ai.streamText.doStream")],
                Some(GENERATION),
            ),
            (
                &[(VERCEL_OPERATION, "ai.generateText.doGenerate")],
                Some(GENERATION),
            ),
            (
                &[(VERCEL_OPERATION, "ai.embedMany.doEmbed")],
                Some(EMBEDDING),
            ),
            (&[(VERCEL_OPERATION, "ai.generateText")], Some(OTHER)),
            (
                &[
                    (VERCEL_OPERATION, "ai.toolCall"),
                    (GEN_AI_OPERATION, "chat"),
                ],
                Some(OTHER),
            ),
            (
                &[("ai.usage.x", "1"), (GEN_AI_OPERATION, "chat")],
                Some(GENERATION),
            ),
            (&[("eve.session.id", "s")], Some(OTHER)),
            (&[(TRACELOOP_REQUEST, "completion")], Some(GENERATION)),
            (&[(TRACELOOP_REQUEST, "embedding")], Some(EMBEDDING)),
            (&[(TRACELOOP_REQUEST, "rerank")], Some(OTHER)),
            (&[("traceloop.workflow.name", "w")], Some(OTHER)),
            (
                &[("pydantic_ai.x", "1"), (GEN_AI_OPERATION, "chat")],
                Some(OTHER),
            ),
        ] {
            assert_eq!(event_of(attributes), expected, "{attributes:?}");
        }
    }
}

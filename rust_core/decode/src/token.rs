//! Which token a request names, and whether it can be one.

use penstock_model::{Code, Refusal};

use crate::envelope::{Envelope, Shape};
use crate::event::{Inner, RawEvent, Root};
use crate::json::{Value, slice, unescape};

/// Longest token in bytes (`posthog-protocol.md` §3.3).
const MAX_TOKEN_BYTES: usize = 64;

/// Checks the shape of a token and gives it without the white space around it.
///
/// Errors: [`Code::InvalidToken`] with the protocol's reason as detail: `empty`, `null_byte`,
/// `not_ascii`, `too_long` or `personal_api_key`.
pub fn check_token(token: &str) -> Result<&str, Refusal> {
    let token = token.trim();
    let reason = if token.is_empty() {
        "empty"
    } else if token.contains('\0') {
        "null_byte"
    } else if !token.is_ascii() {
        "not_ascii"
    } else if token.len() > MAX_TOKEN_BYTES {
        "too_long"
    } else if token.starts_with("phx_") {
        "personal_api_key"
    } else {
        return Ok(token);
    };
    Err(Refusal::new(Code::InvalidToken, reason))
}

/// Whether a value names a token at all: a string that is not blank.
pub(crate) fn names_token(text: &[u8], value: Value) -> bool {
    if !value.is_string(text) {
        return false;
    }
    let literal = &text[value.start() + 1..value.end() - 1];
    // Checked as UTF-8 with the body; the second look is at some bytes of the few that name tokens.
    let literal = std::str::from_utf8(literal).unwrap_or_default();
    if !value.escaped() {
        return !literal.trim().is_empty();
    }
    let mut out = String::with_capacity(literal.len());
    unescape(literal, false, &mut out);
    !out.trim().is_empty()
}

/// The text of a string value; `None` for anything else.
fn text_of(text: &str, value: Value) -> Option<String> {
    if !value.is_string(text.as_bytes()) {
        return None;
    }
    let literal = slice(text, value.start() + 1, value.end() - 1);
    let mut out = String::with_capacity(literal.len());
    if value.escaped() {
        unescape(literal, false, &mut out);
    } else {
        out.push_str(literal);
    }
    Some(out)
}

/// Whether an event names, at its root, another token than `token`.
///
/// `properties.token` doesn't count: beside a token of the request it is a property like any other.
pub(crate) fn names_another(text: &str, event: &RawEvent, token: &str) -> bool {
    let value = event[Root::Token];
    if !value.is_string(text.as_bytes()) {
        return false;
    }
    if value.escaped() {
        return text_of(text, value).is_some_and(|own| differs(&own, token));
    }
    differs(slice(text, value.start() + 1, value.end() - 1), token)
}

/// Whether `own` names a token other than `token`. A blank one names nothing.
fn differs(own: &str, token: &str) -> bool {
    let own = own.trim();
    !own.is_empty() && own != token
}

/// The token that a request stands under, and how it was named.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) token: String,
    /// Named by an event only, so that `properties.token` of its neighbours counts too.
    pub(crate) by_event: bool,
}

impl Resolved {
    /// Whether `event` names another token.
    pub(crate) fn conflicts_with(&self, text: &str, event: &RawEvent) -> bool {
        if !self.by_event || names_token(text.as_bytes(), event[Root::Token]) {
            return names_another(text, event, &self.token);
        }
        text_of(text, event[Inner::Token]).is_some_and(|own| differs(&own, &self.token))
    }
}

/// Finds the token: from outside the body, else the batch's, else the first usable one of an event.
///
/// Errors: [`Code::MissingToken`] if nothing names one, [`Code::InvalidToken`] if none can be one,
/// [`Code::ConflictingTokens`] if the body names another than `outside`.
pub(crate) fn resolve(
    text: &str,
    outside: Option<&str>,
    envelope: &Envelope,
    events: &[RawEvent],
) -> Result<Resolved, Refusal> {
    let of_body = match (envelope.shape, events) {
        (Shape::Single, [event]) => event[Root::Token],
        _ => envelope.token,
    };
    if let Some(outside) = outside {
        let token = check_token(outside)?;
        if text_of(text, of_body).is_some_and(|own| differs(&own, token)) {
            let detail = "name one of them only, or the same in both";
            return Err(Refusal::new(Code::ConflictingTokens, detail));
        }
        return Ok(Resolved {
            token: token.to_owned(),
            by_event: false,
        });
    }
    let mut first_fault = None;
    let of_events = events.iter().flat_map(|event| {
        let own = event[Root::Token];
        [
            own,
            if names_token(text.as_bytes(), own) {
                Value::ABSENT
            } else {
                event[Inner::Token]
            },
        ]
    });
    let batch_level = (envelope.token, false);
    let candidates = std::iter::once(batch_level).chain(of_events.map(|value| (value, true)));
    for (value, by_event) in candidates {
        let Some(candidate) = text_of(text, value) else {
            continue;
        };
        match check_token(&candidate) {
            Ok(token) => {
                return Ok(Resolved {
                    token: token.to_owned(),
                    by_event,
                });
            }
            Err(fault) => first_fault = first_fault.or(Some(fault)),
        }
    }
    Err(first_fault.unwrap_or_else(|| {
        Refusal::new(
            Code::MissingToken,
            "name it as api_key in the request or in each event",
        )
    }))
}

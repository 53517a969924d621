//! Times by the oracle: it knows what those of the vocabulary mean, and few others.

use penstock_model::{RequestContext, Warning};
use serde_json::value::RawValue;

use super::super::raw::{is_null, kind, string};
use super::super::vocabulary::TIMES;

const SECOND_US: i128 = 1_000_000;

/// The first instant of the year 1 and the last of the year 9999.
const RANGE_US: std::ops::RangeInclusive<i128> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// When an event happened, and what was said of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) at_us: i64,
    pub(super) warning: Option<Warning>,
}

/// What a client's timestamp says.
pub(super) enum Claim {
    /// The event has none.
    None,
    /// It is no time.
    Unreadable,
    At(i128),
    /// It is some time.
    Readable,
}

/// Reads a text as a time; `None` if that can't be done here.
pub(super) fn claim_of_text(text: &str) -> Option<Claim> {
    let known = TIMES.iter().find(|(known, _)| *known == text.trim());
    if let Some((_, time)) = known {
        return Some(time.map_or(Claim::Unreadable, Claim::At));
    }
    // Every form of a time has digits.
    let has_digits = text.bytes().any(|byte| byte.is_ascii_digit());
    (!has_digits).then_some(Claim::Unreadable)
}

/// Reads a timestamp; `None` if that can't be done here.
pub(super) fn claim_of(timestamp: Option<&RawValue>) -> Option<Claim> {
    if is_null(timestamp) {
        return Some(Claim::None);
    }
    if let Some(text) = string(timestamp) {
        return claim_of_text(&text);
    }
    if !matches!(kind(timestamp), b'-' | b'0'..=b'9') {
        return Some(Claim::Unreadable);
    }
    let number = timestamp.map(RawValue::get).unwrap_or_default();
    let Ok(whole) = number.parse::<i128>() else {
        // Where fractions are cut is not for a float to tell.
        let is_finite = number.parse::<f64>().unwrap().is_finite();
        return Some(if is_finite {
            Claim::Readable
        } else {
            Claim::Unreadable
        });
    };
    // Seconds, or milliseconds from 12 digits on.
    let unit_us = if whole.abs() >= 100_000_000_000 {
        1_000
    } else {
        SECOND_US
    };
    Some(Claim::At(whole * unit_us))
}

/// The time of an event (`posthog-protocol.md` §3.6), if it can be told here.
pub(super) fn compute(
    claim: &Claim,
    ignore_sent_at: bool,
    context: &RequestContext,
) -> Option<Time> {
    let now = i128::from(context.received_at_us);
    let skew = match context.sent_at_us {
        Some(sent_at) if !ignore_sent_at => i128::from(sent_at) - now,
        _ => 0,
    };
    let (computed, unreadable) = match claim {
        Claim::None => (now, None),
        Claim::Unreadable => (now, Some(Warning::InvalidTimestamp)),
        Claim::At(time) => (time - skew, None),
        Claim::Readable => return None,
    };
    let (at_us, warning) = if computed > now + 23 * 3_600 * SECOND_US {
        (now, Some(Warning::TimestampInFuture))
    } else if !RANGE_US.contains(&computed) {
        (0, Some(Warning::TimestampOutOfRange))
    } else {
        (computed, unreadable)
    };
    Some(Time {
        at_us: i64::try_from(at_us).unwrap(),
        warning,
    })
}

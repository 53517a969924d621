//! The headers of capture v1.

use penstock_model::{Code, Coding, Refusal};

use crate::ai::media_type;
use crate::token::check_token;
use crate::{timestamps, uuids};

/// Longest `PostHog-Sdk-Info` that is used. Real ones have some 20 bytes; a longer one would be
/// written into every event of the batch.
const MAX_SDK_INFO_BYTES: usize = 200;

/// The headers as they came; `None` where there was none.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawHead<'a> {
    pub authorization: Option<&'a [u8]>,
    pub sdk_info: Option<&'a [u8]>,
    pub attempt: Option<&'a [u8]>,
    pub request_id: Option<&'a [u8]>,
    pub request_timestamp: Option<&'a [u8]>,
    pub content_type: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// What the `Content-Encoding` names; `None` if that is no coding of ours.
    pub coding: Option<Coding>,
}

/// What decoding needs of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub token: String,
    /// The client's clock when it sent, microseconds since the Unix epoch.
    pub sent_at_us: i64,
    /// `name/version`, if that can be used.
    pub sdk_info: Option<String>,
    pub coding: Coding,
}

/// Checks the headers, in the order in which PostHog's service does.
///
/// Errors: [`Code::MissingAuthorization`], [`Code::MissingHeaders`], [`Code::InvalidHeader`],
/// [`Code::InvalidToken`], [`Code::UnsupportedContentType`], [`Code::UnsupportedCoding`]. Details
/// name headers, and nothing of their values (SEC-2).
pub fn read_head(raw: &RawHead<'_>) -> Result<Head, Refusal> {
    let authorization = raw.authorization.ok_or_else(|| {
        let detail = "send Authorization: Bearer with the project's token";
        Refusal::new(Code::MissingAuthorization, detail)
    })?;
    let missing = [
        ("PostHog-Sdk-Info", raw.sdk_info),
        ("PostHog-Attempt", raw.attempt),
        ("PostHog-Request-Id", raw.request_id),
        ("PostHog-Request-Timestamp", raw.request_timestamp),
        ("Content-Type", raw.content_type),
        ("User-Agent", raw.user_agent),
    ];
    let missing: Vec<_> = missing
        .into_iter()
        .filter_map(|(name, value)| value.is_none().then_some(name))
        .collect();
    if !missing.is_empty() {
        return Err(Refusal::new(Code::MissingHeaders, missing.join(", ")));
    }
    let invalid = |detail: &str| Refusal::new(Code::InvalidHeader, detail);
    let bearer = bearer_of(authorization)
        .ok_or_else(|| invalid("Authorization is not Bearer with the project's token"))?;
    // Bytes above ASCII make no token, and none of the other texts that are read here.
    let text =
        |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    let token = check_token(&text(Some(bearer)))?.to_owned();
    if !is_json(&text(raw.content_type)) {
        let detail = "send application/json";
        return Err(Refusal::new(Code::UnsupportedContentType, detail));
    }
    let coding = raw.coding.ok_or_else(|| {
        let detail = "send gzip, deflate, br, zstd or none";
        Refusal::new(Code::UnsupportedCoding, detail)
    })?;
    if uuids::parse(text(raw.request_id).trim()).is_none() {
        return Err(invalid("PostHog-Request-Id is not a UUID"));
    }
    if !matches!(text(raw.attempt).trim().parse::<u32>(), Ok(1..)) {
        return Err(invalid("PostHog-Attempt is not a positive integer"));
    }
    let sent_at_us = timestamps::parse(&text(raw.request_timestamp))
        .ok_or_else(|| invalid("PostHog-Request-Timestamp is not a time in RFC 3339"))?;
    let sdk_info = text(raw.sdk_info);
    let sdk_info = sdk_of(&sdk_info).is_some().then_some(sdk_info);
    Ok(Head {
        token,
        sent_at_us,
        sdk_info,
        coding,
    })
}

/// What stands behind the scheme `Bearer`, in letters of any case; `None` for another scheme, or for
/// nothing.
fn bearer_of(authorization: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = authorization
        .trim_ascii_start()
        .split_at_checked(SCHEME.len())?;
    let ends = rest.first().is_some_and(u8::is_ascii_whitespace);
    let token = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && ends && !token.is_empty()).then_some(token)
}

fn is_json(content_type: &str) -> bool {
    media_type(content_type).eq_ignore_ascii_case("application/json")
}

/// The name and the version in a `PostHog-Sdk-Info`; `None` if it can't be used.
pub(super) fn sdk_of(sdk_info: &str) -> Option<(&str, &str)> {
    let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if sdk_info.len() > MAX_SDK_INFO_BYTES || !sdk_info.bytes().all(printable) {
        return None;
    }
    let (name, version) = sdk_info.rsplit_once('/')?;
    let (name, version) = (name.trim(), version.trim());
    (!name.is_empty() && !version.is_empty()).then_some((name, version))
}

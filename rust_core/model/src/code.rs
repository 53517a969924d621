//! THE table of codes: every way in which a request or an event is refused.
//!
//! The codes are public and never change once released. Python maps each to an HTTP status, a gRPC
//! status and a retry hint (`penstock/outcomes.py`); a test holds that map against [`Code::ALL`].

/// What a code can be said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeScope {
    /// One event; its neighbours are taken.
    Event,
    /// A whole request, and sending it again can't help.
    Request,
    /// A whole request, through no fault of it: nothing was stored, it may be sent again.
    Overload,
}

macro_rules! codes {
    ($( $variant:ident, $text:literal, $scope:ident, $public:literal; )*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( $variant, )* }

        impl Code {
            /// Every code, in the order of the table. The place in it is the number that log
            /// records use: append only.
            pub const ALL: &[Code] = &[ $( Code::$variant, )* ];

            /// The public name: stable, in answers, metrics and the `rejected` table.
            pub const fn as_str(self) -> &'static str {
                match self { $( Code::$variant => $text, )* }
            }

            pub const fn scope(self) -> CodeScope {
                match self { $( Code::$variant => CodeScope::$scope, )* }
            }

            /// The text that PostHog's protocol has for it (`posthog-protocol.md` §4.2), or ours
            /// where the protocol has none. SDKs log it; some people match on it.
            pub const fn public_text(self) -> &'static str {
                match self { $( Code::$variant => $public, )* }
            }
        }
    };
}

codes! {
    // One event.
    NotAnObject, "not_an_object", Event, "failed to parse request: event is not an object";
    MissingEventName, "missing_event_name", Event,
        "failed to hydrate events from request: non-engage request missing event name attribute";
    InvalidEventName, "invalid_event_name", Event,
        "failed to parse request: event name is not a string";
    EmptyEventName, "empty_event_name", Event, "event submitted with an empty event name";
    MissingDistinctId, "missing_distinct_id", Event, "event submitted without a distinct_id";
    InvalidUuid, "invalid_uuid", Event, "failed to parse request: uuid is not a UUID";
    InvalidProperties, "invalid_properties", Event,
        "failed to parse request: properties is not an object";
    InvalidCookielessMode, "invalid_cookieless_mode", Event,
        "event submitted with invalid cookieless mode";
    EventTooLarge, "event_too_large", Event, "maximum event size exceeded";
    EventTooDeep, "event_too_deep", Event, "failed to parse request: event is nested too deeply";
    TokenMismatch, "token_mismatch", Event,
        "batch submitted with inconsistent api_key values";
    // A whole request, final.
    MissingPayload, "missing_payload", Request, "request missing data payload";
    InvalidGzip, "invalid_gzip", Request, "failed to decode request: invalid GZIP data";
    InvalidZstd, "invalid_zstd", Request, "failed to decode request: invalid ZSTD data";
    UnsupportedCoding, "unsupported_coding", Request,
        "failed to decode request: unsupported content encoding";
    InvalidJson, "invalid_json", Request, "failed to parse request";
    UnsupportedShape, "unsupported_shape", Request,
        "failed to parse request: expected an event, an array of events, or an object with a batch";
    RequestTooDeep, "request_too_deep", Request, "failed to parse request: nested too deeply";
    NoEvents, "no_events", Request, "request holds no event";
    TooManyEvents, "too_many_events", Request, "maximum event count exceeded";
    RequestTooLarge, "request_too_large", Request, "maximum event size exceeded: request body";
    DecompressedTooLarge, "decompressed_too_large", Request,
        "maximum event size exceeded: decompressed request body";
    MissingToken, "missing_token", Request, "event submitted without an api_key";
    InvalidToken, "invalid_token", Request, "API key is not valid";
    UnknownToken, "unknown_token", Request, "API key is not valid: unknown to this server";
    TooManyProjects, "too_many_projects", Request,
        "API key is not valid: this server takes no further unnamed projects";
    ConflictingTokens, "conflicting_tokens", Request,
        "request names one api_key in its metadata and another in its body";
    InvalidMessage, "invalid_message", Request, "message is not a valid AppendRequest";
    AckNotAllowed, "ack_not_allowed", Request, "this ack level is not allowed by the server";
    // A whole request, to be sent again.
    Overloaded, "overloaded", Overload, "server is overloaded, please retry";
    ShuttingDown, "shutting_down", Overload, "server is shutting down, please retry";
    Starting, "starting", Overload, "server is starting, please retry";
    StorageFailed, "storage_failed", Overload, "transient error, please retry";
    DiskFull, "disk_full", Overload, "server storage is full, please retry later";
    WalFull, "wal_full", Overload, "server log is full, please retry later";
    TableTimeout, "table_timeout", Overload, "on disk, not yet in the table";
    // A bug of ours; whatever it was, nothing of the request was stored.
    InternalError, "internal_error", Request, "internal error";
    // A whole request, final; behind the others since numbers are append only.
    InvalidDeflate, "invalid_deflate", Request,
        "failed to decode request: invalid DEFLATE data";
    InvalidBrotli, "invalid_brotli", Request, "failed to decode request: invalid BROTLI data";
    InvalidBase64, "invalid_base64", Request, "failed to decode request: invalid BASE64 data";
    InvalidLz64, "invalid_lz64", Request, "failed to decode request: invalid LZ64 data";
    // One snapshot of session replay.
    MissingSnapshotData, "missing_snapshot_data", Event,
        "replay event submitted without snapshot data";
    MissingSessionId, "missing_session_id", Event, "replay event submitted without session id";
    InvalidSessionId, "invalid_session_id", Event, "replay event has invalid session id";
    WrongContentType, "wrong_content_type", Request,
        "failed to decode request: wrong content type";
    InvalidMultipart, "invalid_multipart", Request,
        "failed to decode request: invalid multipart data";
    InvalidOtlp, "invalid_otlp", Request,
        "failed to parse request: not a valid OTLP trace export";
    TooManySpans, "too_many_spans", Request, "failed to parse request: too many spans";
    // One event.
    NotAnAiEvent, "not_an_ai_event", Event,
        "failed to parse request: event name does not begin with $ai_";
    MissingAiModel, "missing_ai_model", Event,
        "failed to parse request: $ai_model is missing or empty";
    // Of capture v1: one event.
    EventNameTooLong, "event_name_too_long", Event, "event name exceeds maximum length";
    DistinctIdTooLarge, "distinct_id_too_large", Event, "distinct_id exceeds maximum size";
    InvalidEventTimestamp, "invalid_event_timestamp", Event,
        "event submitted with invalid timestamp";
    InvalidOptions, "invalid_options", Event, "event submitted with invalid options";
    DroppedPerformanceEvent, "dropped_performance_event", Event,
        "performance events are not stored";
    // Of capture v1: a whole request, final.
    MissingAuthorization, "missing_authorization", Request,
        "request has no bearer token";
    MissingHeaders, "missing_required_headers", Request, "request is missing required headers";
    InvalidHeader, "invalid_header_value", Request, "invalid header value";
    UnsupportedContentType, "unsupported_content_type", Request, "unsupported content type";
    InvalidBatch, "invalid_batch", Request, "invalid batch";
    MissingEventUuid, "missing_event_uuid", Request, "event submitted without a uuid";
    InvalidEventUuid, "invalid_event_uuid", Request, "event submitted with an invalid uuid";
    DuplicateEventUuid, "duplicate_event_uuid", Request, "duplicate event uuid";
    // Of cookieless mode: one event, of which no visitor can be told.
    CookielessMissingUserAgent, "cookieless_missing_user_agent", Event,
        "event of cookieless mode submitted without $raw_user_agent";
    CookielessMissingIp, "cookieless_missing_ip", Event,
        "event of cookieless mode submitted without a client address";
    CookielessMissingHost, "cookieless_missing_host", Event,
        "event of cookieless mode submitted without $host";
    CookielessTimestampOutOfRange, "cookieless_timestamp_out_of_range", Event,
        "event of cookieless mode submitted on no day that visitors are told apart of";
    CookielessUnsupportedEvent, "cookieless_unsupported_event", Event,
        "$create_alias and $merge_dangerously are not taken in cookieless mode";
}

impl Code {
    /// The number that log records use.
    pub const fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// What capture v1 calls the fault of one event (`posthog-protocol.md` §4.4): our own name
    /// where its list has it or has nothing like it.
    pub const fn v1_detail(self) -> &'static str {
        match self {
            Self::EmptyEventName => Self::MissingEventName.as_str(),
            Self::InvalidProperties => "malformed_event_properties",
            Self::EventTooLarge => "event_too_big",
            other => other.as_str(),
        }
    }
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored once.
    Accepted,
    /// The same event was stored before (DUP-1); answered as a success.
    Duplicate,
    /// Not stored as an event; its text and the reason go to the `rejected` table.
    Rejected(Code),
}

/// A whole request was refused.
///
/// `detail` is for the client: it says what the client can do, and holds nothing of its payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .code.public_text())]
pub struct Refusal {
    pub code: Code,
    pub detail: String,
}

impl Refusal {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_read_back() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.number()), index);
            assert_eq!(Code::from_number(code.number()), Some(*code));
            assert!(
                Code::ALL
                    .iter()
                    .filter(|other| other.as_str() == code.as_str())
                    .count()
                    == 1
            );
        }
        assert!(Code::ALL.len() < 255);
    }
}

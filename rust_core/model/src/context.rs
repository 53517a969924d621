//! What decoding needs to know of a request besides its bytes.

use std::net::IpAddr;

use crate::DecodeLimits;

/// How long an answer waits. Ordered: a later level includes the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum AckLevel {
    /// In this process's memory. Lost with the process; stands outside ACK-1 and TAB-1.
    Memory = 1,
    /// On disk: written and synced.
    Disk = 2,
    /// In the table: part of a durable commit.
    Table = 3,
}

impl AckLevel {
    /// Reads the number that the gRPC enum and the settings use.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Memory),
            2 => Some(Self::Disk),
            3 => Some(Self::Table),
            _ => None,
        }
    }
}

/// The route by which a request came. The numbers are stored in log records and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Endpoint {
    Batch = 1,
    E = 2,
    IV0E = 3,
    Capture = 4,
    Track = 5,
    Engage = 6,
    /// AI events in batches; taken and read like all others.
    AiBatch = 7,
    /// Session replay: `/s`.
    Recordings = 16,
    /// One AI event in parts, `multipart/form-data`.
    Ai = 20,
    /// Spans of OpenTelemetry, of which those about AI become events.
    AiOtel = 21,
    /// Capture v1: headers beside the body, an answer for each event.
    V1Analytics = 24,
    /// The same for AI events; taken and read like all others.
    V1Ai = 25,
    GrpcAppend = 32,
}

impl Endpoint {
    pub const ALL: [Self; 13] = [
        Self::Batch,
        Self::E,
        Self::IV0E,
        Self::Capture,
        Self::Track,
        Self::Engage,
        Self::AiBatch,
        Self::Recordings,
        Self::Ai,
        Self::AiOtel,
        Self::V1Analytics,
        Self::V1Ai,
        Self::GrpcAppend,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|endpoint| *endpoint as u8 == number)
    }

    /// Whether requests of this route are of capture v1 (`posthog-protocol.md` §4.4).
    pub const fn is_v1(self) -> bool {
        matches!(self, Self::V1Analytics | Self::V1Ai)
    }

    /// The name in metrics and in the `rejected` table: the HTTP path without slashes at the ends.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::E => "e",
            Self::IV0E => "i/v0/e",
            Self::Capture => "capture",
            Self::Track => "track",
            Self::Engage => "engage",
            Self::AiBatch => "i/v0/ai/batch",
            Self::Recordings => "s",
            Self::Ai => "i/v0/ai",
            Self::AiOtel => "i/v0/ai/otel",
            Self::V1Analytics => "i/v1/analytics/events",
            Self::V1Ai => "i/v1/ai/events",
            Self::GrpcAppend => "penstock.v1.IngestService/Append",
        }
    }

    /// Whether what it brings are snapshots of session replay: judged by rules of their own, and
    /// stored apart from events.
    pub const fn takes_recordings(self) -> bool {
        matches!(self, Self::Recordings)
    }

    /// The name of an event that comes by it without one; `None`: that is refused.
    pub const fn default_event_name(self) -> Option<&'static str> {
        match self {
            Self::Engage => Some("$identify"),
            Self::Recordings => Some("$snapshot"),
            _ => None,
        }
    }
}

/// What a request says its content coding is. What the bytes are wins over it.
///
/// The numbers are stored in log records and never change. Those up to [`Coding::Zstd`] are also the
/// numbers of the gRPC enum, which has no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Coding {
    /// Nothing was said: by magic, else identity.
    #[default]
    Unspecified = 0,
    Identity = 1,
    Gzip = 2,
    Zstd = 3,
    /// zlib's wrapping, or none.
    Deflate = 4,
    Brotli = 5,
    Base64 = 6,
    /// LZ-String in base64.
    Lz64 = 7,
}

impl Coding {
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::Identity,
        Self::Gzip,
        Self::Zstd,
        Self::Deflate,
        Self::Brotli,
        Self::Base64,
        Self::Lz64,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// How a body is written once its content coding is undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BodyForm {
    /// JSON in any of the shapes that capture routes take.
    #[default]
    Events,
    /// `multipart/form-data`: the parts of one AI event.
    AiParts {
        /// What parts them, as the `Content-Type` says.
        boundary: String,
    },
    /// An `ExportTraceServiceRequest` of OpenTelemetry's protocol, as protobuf.
    OtlpProtobuf,
    /// The same as JSON.
    OtlpJson,
}

/// Everything about a request but its payload that its decoding depends on.
///
/// Decoding reads no clock, no settings and no randomness besides this, so the same payload and
/// context give the same batch: in the foreground, in the background and in a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// Version of the decoding rules; see `decode::DECODER_VERSION`.
    pub decoder_version: u16,
    pub limits: DecodeLimits,
    pub endpoint: Endpoint,
    /// The hint from query or header.
    pub coding: Coding,
    pub form: BodyForm,
    /// Wall clock when the request was complete, microseconds since the Unix epoch.
    pub received_at_us: i64,
    /// The client's address after the proxy rule.
    pub client_address: Option<IpAddr>,
    /// The client's clock when it sent, from the query, the gRPC message or a header of capture v1;
    /// the body's own wins, where it has one.
    pub sent_at_us: Option<i64>,
    /// Token from outside the body (gRPC field or metadata, header of capture v1). It wins; another
    /// one in the body refuses the request, except in capture v1, whose bodies name none.
    pub token: Option<String>,
    /// What the client says of itself, if that can be used: of capture v1, `name/version`, the `$lib`
    /// and `$lib_version` of its events; of session replay, its library as the `User-Agent` names
    /// it, for snapshots that name none.
    pub sdk_info: Option<String>,
    /// Whether the text was rewritten before the log because of events of cookieless mode: it names
    /// what was made of their visitors, and no address of the request stands for theirs.
    pub cookieless: bool,
    /// Random bits from which the ids of events without one are made.
    pub uuid_seed: [u8; 16],
}

//! What an engine is opened with. Python's `Settings` documents every value for users.

use std::path::PathBuf;
use std::time::Duration;

use penstock_model::{AckLevel, DecodeLimits, Endpoint};
use penstock_segment::SegmentOptions;

/// Containers open at once in an upload of session replay. The tree of a page nests two at each
/// level, and some SDKs send it as it is; this is a tree of 500 levels.
const RECORDING_JSON_DEPTH: u32 = 1_024;

/// A named project: its tokens, and what of it differs from the server's settings.
#[derive(Clone, Debug)]
pub struct ProjectOptions {
    pub name: String,
    pub tokens: Vec<String>,
    pub ack: Option<AckLevel>,
    pub discard_client_ip: Option<bool>,
}

/// All of an engine's settings, checked by the caller.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub data_directory: PathBuf,
    /// A cut is made at most this long after the first record that it covers was synced.
    pub flush_interval: Duration,
    /// How long an event id is remembered; zero turns deduplication off.
    pub dedup_window: Duration,
    pub dedup_memory_bytes: u64,
    pub dedup_disk_bytes: u64,
    pub limits: DecodeLimits,
    /// Text of one snapshot of session replay, in the place of `limits.max_event_bytes`.
    pub max_recording_bytes: u32,
    /// Bytes of requests between admission and answer, decompressed: LIM-2.
    pub max_in_flight_bytes: u64,
    pub max_wal_bytes: u64,
    pub wal_file_bytes: u64,
    pub max_group_bytes: u64,
    /// Parsed batches kept for the background; past it they are read back from the log.
    pub batch_cache_bytes: u64,
    pub segment: SegmentOptions,
    pub decode_threads: usize,
    /// Tokens taken as projects of their own when no project is named in the settings.
    pub max_unnamed_projects: usize,
    pub disk_reserve_bytes: u64,
    /// Ack level of HTTP requests, and of gRPC requests that name none.
    pub ack: AckLevel,
    /// Ack levels that a gRPC request may name.
    pub allowed_ack: Vec<AckLevel>,
    /// An answer at `table` waits this long for the commit.
    pub table_ack_timeout: Duration,
    /// Clients' addresses are gone before a request is in the log.
    pub discard_client_ip: bool,
    pub projects: Vec<ProjectOptions>,
}

impl EngineOptions {
    /// The limits of a request that comes by `endpoint`.
    pub(crate) fn limits_of(&self, endpoint: Endpoint) -> DecodeLimits {
        let mut limits = self.limits;
        if endpoint.takes_recordings() {
            limits.max_event_bytes = self.max_recording_bytes;
            limits.max_json_depth = limits.max_json_depth.max(RECORDING_JSON_DEPTH);
        }
        limits
    }
}

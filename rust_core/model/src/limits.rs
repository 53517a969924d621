//! The limits that decoding enforces, each with its reason.

/// Limits on one request. They go into the log record, so that a replay under other settings
/// decides as the first decode did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// A body may grow to this when its content coding is undone. Five times the largest body on
    /// the wire, the ratio that PostHog's own service allows; bounds what a bomb can cost.
    pub max_decompressed_bytes: u32,
    /// Text of one event. The largest event that an SDK sends by design is 8 MiB (AI events of the
    /// Python SDK).
    pub max_event_bytes: u32,
    /// Events in one request. SDKs send at most a few hundred; imports send thousands.
    pub max_events_per_request: u32,
    /// Containers open at once, counted from the start of the body. 128 is what `serde_json`
    /// allows, so nothing that PostHog takes is refused.
    pub max_json_depth: u32,
}

impl DecodeLimits {
    pub const DEFAULT: Self = Self {
        max_decompressed_bytes: 100 << 20,
        max_event_bytes: 8 << 20,
        max_events_per_request: 50_000,
        max_json_depth: 128,
    };
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

//! One record of the log with its decoded batch: what a builder takes.

use std::net::IpAddr;

use penstock_model::{Batch, Endpoint, LaneId, Position};

/// A record and everything about it that becomes columns.
#[derive(Clone, Copy, Debug)]
pub struct RecordMeta<'a> {
    pub lane: LaneId,
    /// Ascends from record to record within a cut.
    pub position: Position,
    /// Resolved at receipt; never empty.
    pub project: &'a str,
    /// Microseconds since the Unix epoch.
    pub received_at_us: i64,
    /// After the proxy rule.
    pub client_address: Option<IpAddr>,
    pub endpoint: Endpoint,
    pub batch: &'a Batch,
}

//! Records that wait for the log thread. The order of the log is fixed here.

use std::collections::VecDeque;

use penstock_model::{LaneId, Position};

use crate::error::{AppendError, LogError};
use crate::log::LogOptions;

/// Whether the log takes records.
#[derive(Clone, Debug)]
pub enum LogState {
    Open,
    /// A write or sync failed; see [`crate::Log::reopen`].
    Poisoned {
        error: LogError,
    },
    Closed,
}

/// Records of one group, and their lane.
#[derive(Debug)]
pub(crate) struct Group<R> {
    pub(crate) lane: LaneId,
    pub(crate) records: Vec<(Position, R)>,
}

#[derive(Debug)]
pub(crate) struct Queue<R> {
    options: LogOptions,
    records: VecDeque<(Position, u64, R)>,
    queued_bytes: u64,
    /// Bytes of the group that is being written.
    writing_bytes: u64,
    next: Position,
    /// The lane of this opening, from its first append on.
    lane: Option<LaneId>,
    /// Drawn beforehand, so that an append can't fail for want of randomness.
    next_lane: LaneId,
    pub(crate) state: LogState,
    /// The log thread waits to be woken.
    pub(crate) sleeping: bool,
    /// The sink has not yet been told of the failure.
    pub(crate) failing: bool,
}

impl<R> Queue<R> {
    pub(crate) fn new(options: LogOptions, next: Position, next_lane: LaneId) -> Self {
        Self {
            options,
            records: VecDeque::new(),
            queued_bytes: 0,
            writing_bytes: 0,
            next,
            lane: None,
            next_lane,
            state: LogState::Open,
            sleeping: false,
            failing: false,
        }
    }

    pub(crate) fn next_position(&self) -> Position {
        self.next
    }

    pub(crate) fn lane(&self) -> Option<LaneId> {
        self.lane
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes that are not in `live_bytes` yet.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.queued_bytes + self.writing_bytes
    }

    /// Takes a record of `bytes`, header included. `live_bytes` are those of the files.
    pub(crate) fn push(
        &mut self,
        record: R,
        bytes: u64,
        live_bytes: u64,
    ) -> Result<Position, (R, AppendError)> {
        match &self.state {
            LogState::Open => {}
            LogState::Poisoned { error } => {
                let error = error.clone();
                return Err((record, AppendError::Poisoned { error }));
            }
            LogState::Closed => return Err((record, AppendError::Closed)),
        }
        let LogOptions {
            max_queue_bytes,
            max_wal_bytes,
            ..
        } = self.options;
        let pending_bytes = self.pending_bytes();
        let used_bytes = live_bytes.saturating_add(pending_bytes);
        if used_bytes.saturating_add(bytes) > max_wal_bytes || bytes > u64::from(u32::MAX) {
            return Err((
                record,
                AppendError::WalFull {
                    used_bytes,
                    max_bytes: max_wal_bytes,
                },
            ));
        }
        // One record is always taken, or one larger than the limit would never be.
        if pending_bytes > 0 && pending_bytes.saturating_add(bytes) > max_queue_bytes {
            let (queued_bytes, max_bytes) = (pending_bytes, max_queue_bytes);
            return Err((
                record,
                AppendError::QueueFull {
                    queued_bytes,
                    max_bytes,
                },
            ));
        }
        let position = self.next;
        self.next = position.next();
        self.lane.get_or_insert(self.next_lane);
        self.queued_bytes += bytes;
        self.records.push_back((position, bytes, record));
        Ok(position)
    }

    /// Takes the next group: at least one record, and no more than fit its limit.
    pub(crate) fn take_group(&mut self) -> Option<Group<R>> {
        let lane = self.lane?;
        let mut bytes = 0;
        let mut count = 0;
        for (_, record_bytes, _) in &self.records {
            if count > 0 && bytes + record_bytes > self.options.max_group_bytes {
                break;
            }
            bytes += record_bytes;
            count += 1;
        }
        if count == 0 {
            return None;
        }
        self.queued_bytes -= bytes;
        self.writing_bytes = bytes;
        let records = self.records.drain(..count);
        Some(Group {
            lane,
            records: records
                .map(|(position, _, record)| (position, record))
                .collect(),
        })
    }

    /// The group that was taken is written, or given up.
    pub(crate) fn group_done(&mut self) {
        self.writing_bytes = 0;
    }

    /// Refuses what comes, and gives up what is queued; its positions are passed (WAL-3).
    pub(crate) fn poison(&mut self, error: &LogError) -> impl Iterator<Item = (Position, R)> {
        if !matches!(self.state, LogState::Closed) {
            self.state = LogState::Poisoned {
                error: error.clone(),
            };
        }
        self.failing = true;
        self.queued_bytes = 0;
        self.writing_bytes = 0;
        std::mem::take(&mut self.records)
            .into_iter()
            .map(|(position, _, record)| (position, record))
    }

    /// Takes records again, in a new lane.
    pub(crate) fn reopen(&mut self, next_lane: LaneId) {
        self.state = LogState::Open;
        self.lane = None;
        self.next_lane = next_lane;
    }
}

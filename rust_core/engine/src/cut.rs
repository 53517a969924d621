//! A cut: what is handed to the tables at once, and where it waits for that.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use penstock_model::{LaneId, Position};
use penstock_segment::SegmentFile;

use crate::ledger::CutTally;

/// The transaction to commit for one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutLane {
    pub lane: LaneId,
    /// Highest position of the lane that this cut covers: the transaction's version.
    pub position: Position,
}

/// All rows at or below one position that no earlier cut had, and none above it.
#[derive(Clone, Debug)]
pub struct Cut {
    pub position: Position,
    /// Every lane with a position in this cut, with or without rows.
    pub lanes: Vec<CutLane>,
    /// Files of every table: written and synced (TAB-2), not yet named by their tables.
    pub files: Vec<SegmentFile>,
    /// Whether a file of the log could go once all tables have passed this cut.
    pub releases: bool,
    /// What its records came to.
    pub(crate) tally: CutTally,
}

/// The cut that waits for its commit.
#[derive(Debug, Default)]
pub(crate) struct CutSlot {
    inner: Mutex<SlotInner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SlotInner {
    cut: Option<Arc<Cut>>,
    held: Option<String>,
    discarded: bool,
    closed: bool,
}

impl CutSlot {
    /// Waits up to `timeout` for a cut. The same one is given until it is taken away.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Arc<Cut>> {
        let mut inner = self.inner.lock();
        if inner.cut.is_none() && !inner.closed {
            self.changed.wait_for(&mut inner, timeout);
        }
        if inner.held.is_some() {
            None
        } else {
            inner.cut.clone()
        }
    }

    /// The cut at `position`, if it is the one that waits.
    pub(crate) fn at(&self, position: Position) -> Option<Arc<Cut>> {
        let inner = self.inner.lock();
        inner.cut.clone().filter(|cut| cut.position == position)
    }

    /// The cut at `position` is committed, and all that hangs on it is done.
    pub(crate) fn done(&self, position: Position) {
        let mut inner = self.inner.lock();
        inner.cut.take_if(|cut| cut.position == position);
    }

    /// The cut at `position` can't be committed: its rows are to be built anew.
    pub(crate) fn discard(&self, position: Position) {
        let mut inner = self.inner.lock();
        if inner.cut.take_if(|cut| cut.position == position).is_some() {
            inner.discarded = true;
        }
    }

    /// Whether a cut was discarded since the last time this was asked.
    pub(crate) fn take_discarded(&self) -> bool {
        std::mem::take(&mut self.inner.lock().discarded)
    }

    pub(crate) fn hold(&self, reason: Option<String>) {
        self.inner.lock().held = reason;
        self.changed.notify_all();
    }

    pub(crate) fn held(&self) -> bool {
        self.inner.lock().held.is_some()
    }

    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_free(&self) -> bool {
        let inner = self.inner.lock();
        inner.cut.is_none() && inner.held.is_none() && !inner.discarded
    }

    pub(crate) fn put(&self, cut: Cut) {
        let mut inner = self.inner.lock();
        assert!(inner.cut.is_none(), "one cut at a time");
        inner.cut = Some(Arc::new(cut));
        self.changed.notify_all();
    }
}

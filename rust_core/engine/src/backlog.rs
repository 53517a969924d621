//! Records that are durable and wait for the background, as far as they fit a budget.
//!
//! A cache of the log's newest part and nothing more: what is not in it is read back from the log.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use penstock_model::{Batch, Position, RequestContext};

use crate::ledger::Counts;

/// A durable record whose parsed batch is at hand.
#[derive(Debug)]
pub(crate) struct CachedRecord {
    pub(crate) position: Position,
    pub(crate) batch: Batch,
    pub(crate) request: RequestContext,
    pub(crate) project: Arc<str>,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    records: VecDeque<CachedRecord>,
    held_bytes: usize,
    /// When the oldest record that no cut covers yet became durable, monotonic nanoseconds.
    oldest_uncut_nanos: Option<u64>,
    flush_asked: bool,
    stopping: bool,
}

#[derive(Debug)]
pub(crate) struct Backlog {
    inner: Mutex<Inner>,
    woken: Condvar,
    max_bytes: usize,
}

/// Why the background was woken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wake {
    pub(crate) oldest_uncut_nanos: Option<u64>,
    pub(crate) flush_asked: bool,
    pub(crate) stopping: bool,
}

impl Backlog {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            inner: Mutex::new(Inner::default()),
            woken: Condvar::new(),
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
        }
    }

    /// Keeps records of a synced group if they fit (LIM-2); the others are dropped, to be read
    /// back from the log. Records come in log order.
    pub(crate) fn add(&self, records: impl IntoIterator<Item = CachedRecord>, now_nanos: u64) {
        let mut inner = self.inner.lock();
        if inner.oldest_uncut_nanos.is_none() {
            inner.oldest_uncut_nanos = Some(now_nanos);
            self.woken.notify_one();
        }
        for record in records {
            let bytes = record.batch.held_bytes();
            if inner.held_bytes + bytes > self.max_bytes {
                continue;
            }
            inner.held_bytes += bytes;
            inner.records.push_back(record);
        }
    }

    /// Takes the record at `position` if it is here; drops older ones on the way.
    pub(crate) fn take(&self, position: Position) -> Option<CachedRecord> {
        let mut inner = self.inner.lock();
        while inner
            .records
            .front()
            .is_some_and(|record| record.position <= position)
        {
            let record = inner.records.pop_front()?;
            inner.held_bytes -= record.batch.held_bytes();
            if record.position == position {
                return Some(record);
            }
        }
        None
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.inner.lock().held_bytes
    }

    /// A cut covers everything up to now; `left` tells whether durable records remain behind it.
    ///
    /// It is asked under the lock: a record that becomes durable later sets the clock again in
    /// [`Self::add`], one that was durable before is seen.
    pub(crate) fn cut_made(&self, left: impl FnOnce() -> bool, now_nanos: u64) {
        let mut inner = self.inner.lock();
        inner.oldest_uncut_nanos = left().then_some(now_nanos);
        inner.flush_asked = false;
    }

    pub(crate) fn ask_flush(&self) {
        self.inner.lock().flush_asked = true;
        self.woken.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.inner.lock().stopping = true;
        self.woken.notify_all();
    }

    /// Looks at the state without waiting.
    pub(crate) fn look(&self) -> Wake {
        let inner = self.inner.lock();
        Wake {
            oldest_uncut_nanos: inner.oldest_uncut_nanos,
            flush_asked: inner.flush_asked,
            stopping: inner.stopping,
        }
    }

    /// Wakes the background: a cut was committed, or a file is to be built again.
    pub(crate) fn wake(&self) {
        // Under the lock, so that it can't fall between a look and the wait behind it.
        let _inner = self.inner.lock();
        self.woken.notify_one();
    }

    /// Forgets the records that are held: nothing builds them any more.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.records.clear();
        inner.held_bytes = 0;
    }

    /// Waits until woken or for `timeout`. `flush_seen`: the flush that is asked for is known, and
    /// can't be made now.
    pub(crate) fn wait(&self, timeout: std::time::Duration, flush_seen: bool) {
        let mut inner = self.inner.lock();
        if inner.stopping || (inner.flush_asked && !flush_seen) {
            return;
        }
        self.woken.wait_for(&mut inner, timeout);
    }
}

//! Seals closed files of the log, so that a start after a crash reads the last one or two of them
//! instead of all.
//!
//! What a start needs of a file is that the ids of its records are in the window (DUP-1). Those are
//! written to `dedup/` anyway before a file goes (DUP-2); here that is done as soon as a file is
//! closed, and only then is its seal made: it says that the file need not be decoded, of which state
//! of `dedup/` that is true, and by which rules its records were written. The log adds what it needs
//! itself (`penstock_wal`, seals). A thread of its own does it, so no commit group waits.

use std::sync::Arc;

use penstock_decode::DECODER_VERSION;
use penstock_dedup::Dedup;
use penstock_disk::CrashPoint;
use penstock_wal::{Log, SealTag};

use crate::error::EngineError;
use crate::journal::LogLevel;
use crate::record::NEWEST_LAYOUT_VERSION;
use crate::shared::{PendingRecord, Shared};
use crate::supervisor::{StopSignal, TICK};

/// Between two tries after a failure: a full disk has better use for its last bytes than seals.
const TRY_AGAIN_NANOS: u64 = 10_000_000_000;

/// The word under which this process seals files: the state of deduplication that has their ids
/// (zeros if it is off), then the newest versions of the records' layout and of the decoder. A file under
/// another word is decoded at the start: by a release that does not know its records, to be refused.
pub(crate) fn tag(dedup: Option<&Dedup>) -> SealTag {
    let mut tag = [0; 32];
    if let Some(dedup) = dedup {
        tag[..16].copy_from_slice(&dedup.state_id());
        tag[16] = 1;
    }
    tag[17] = NEWEST_LAYOUT_VERSION;
    tag[18..20].copy_from_slice(&DECODER_VERSION.to_le_bytes());
    tag
}

pub(crate) struct Sealer<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    log: Arc<Log<PendingRecord<T>>>,
    stop: Arc<StopSignal>,
    tag: SealTag,
    /// Runs of ids that could not be read, when this began.
    damaged_runs: u64,
    not_before_nanos: u64,
}

impl<T: Send + 'static> Sealer<T> {
    pub(crate) fn new(
        shared: Arc<Shared<T>>,
        log: Arc<Log<PendingRecord<T>>>,
        stop: Arc<StopSignal>,
    ) -> Self {
        let tag = tag(shared.sequencer.lock().dedup.as_ref());
        let damaged_runs = damaged_runs(&shared);
        Self {
            shared,
            log,
            stop,
            tag,
            damaged_runs,
            not_before_nanos: 0,
        }
    }

    pub(crate) fn run(&mut self) {
        while !self.stop.wait(TICK) {
            self.turn();
        }
    }

    /// Seals what was closed since the last turn.
    pub(crate) fn turn(&mut self) {
        let now = self.shared.clock.monotonic_nanos();
        if now < self.not_before_nanos {
            return;
        }
        match self.seal() {
            Ok(sealed) => self.shared.metrics.files_sealed.add(sealed),
            Err(error) => {
                self.not_before_nanos = now.saturating_add(TRY_AGAIN_NANOS);
                self.shared.journal.add(
                    LogLevel::Warning,
                    "log_files_not_sealed",
                    vec![("error", error.to_string())],
                );
            }
        }
    }

    fn seal(&self) -> Result<u64, EngineError> {
        let failed = |error| EngineError::log(&error);
        if damaged_runs(&self.shared) > self.damaged_runs {
            // Ids that seals vouch for are lost. The next start reads them out of the log again.
            self.log.break_seals().map_err(failed)?;
            return Ok(0);
        }
        let Some(last) = self.log.unsealed(&self.tag) else {
            return Ok(0);
        };
        self.shared.persist_ids(last)?;
        CrashPoint::WalIdsSynced.pass();
        self.log.seal(last, &self.tag).map_err(failed)
    }
}

fn damaged_runs<T: Send + 'static>(shared: &Shared<T>) -> u64 {
    let sequencer = shared.sequencer.lock();
    sequencer
        .dedup
        .as_ref()
        .map_or(0, |dedup| dedup.stats().damaged_runs)
}

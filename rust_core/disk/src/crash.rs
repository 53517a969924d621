//! Points at which a test ends the process, as `kill -9` would (feature `testing`).
//!
//! `PENSTOCK_CRASH_AT=<point>[:<nth>]` names one. When the process passes it for the nth time
//! (default 1), it says so in one line on standard error and is gone: nothing unwinds, no buffer is
//! flushed, no lock is let go, and no later step of any thread is waited for. What was written stays
//! in the page cache; losing that too is the part of `FaultyFilesystem`.
//!
//! The points stand where what is on disk differs from what it is a step earlier or later, and
//! where a mistake in the order of two steps would lose or double an event. They are listed once,
//! here, those of Python's committer too, which passes them by name. A test meets every one of the
//! list (`tests/durability`), so a new point needs no more than its line here and its call.
//!
//! Without the feature nothing of this exists: [`CrashPoint::pass`] is an empty function, there are no
//! names, and the environment is not read.

macro_rules! crash_points {
    ($( $(#[$documentation:meta])* $variant:ident, $name:literal; )*) => {
        /// A point of the list; see the module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CrashPoint { $( $(#[$documentation])* $variant, )* }

        #[cfg(any(test, feature = "testing"))]
        impl CrashPoint {
            const ALL: &[Self] = &[ $( Self::$variant, )* ];
            const NAMES: &[&str] = &[ $( $name, )* ];

            const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
    };
}

crash_points! {
    // The log, as requests come.
    /// A commit group is written and not synced; nobody was answered.
    WalGroupWritten, "wal_group_written";
    /// A commit group is synced; nobody was answered.
    WalGroupSynced, "wal_group_synced";
    /// A log file has its name, new or after a release, and neither its length nor a synced directory.
    WalFileNamed, "wal_file_named";
    /// The log has gone on to its next file, in which nothing is written yet.
    WalRolled, "wal_rolled";
    /// The ids of closed log files are synced; the files have no seals yet.
    WalIdsSynced, "wal_ids_synced";
    /// A closed log file has its seal, synced; others may be without.
    WalFileSealed, "wal_file_sealed";

    // From the log to a cut.
    /// A Parquet file is written and not synced; others of its cut may be missing.
    SegmentFileWritten, "segment_file_written";
    /// All files of a cut are synced, and no table names one.
    CutBuilt, "cut_built";

    // The commits; passed by `python/penstock/table`.
    /// A table is about to be committed to: its files' names are synced.
    CommitBegun, "commit_begun";
    /// The library's commit has returned, and we have synced nothing of it.
    CommitWritten, "commit_written";
    /// `events` has the cut, synced, and `rejected` does not.
    CutHalfCommitted, "cut_half_committed";
    /// Every table has the cut, synced; the core does not know.
    CutInTables, "cut_in_tables";
    /// A checkpoint is due; the cut before it is settled.
    CheckpointBegun, "checkpoint_begun";
    /// The library's checkpoint has returned, and we have synced nothing of it.
    CheckpointWritten, "checkpoint_written";
    /// The checkpoint is synced and reads back; old log entries are still there.
    CheckpointSynced, "checkpoint_synced";

    // What lets the log's files go.
    /// The ledger has a cut that is in the tables; the note does not.
    LedgerWritten, "ledger_written";
    /// The note tells of the cut that lets a log file go; all files are still there.
    NoteWritten, "note_written";
    /// Ids are written to an id log and not synced.
    DedupIdsWritten, "dedup_ids_written";
    /// The ids of the files that are about to go are synced; the files are still there.
    DedupPersisted, "dedup_persisted";
    /// A log file says of itself that it is released, synced, and has its old name.
    WalFileMarked, "wal_file_marked";
    /// A log file is gone or has its new name, its directory is not synced; others are to follow.
    WalFileReleased, "wal_file_released";
    /// A run of ids has its name, its directory is not synced; what it replaces is still there.
    DedupRunNamed, "dedup_run_named";
    /// A file is gone that a run stands for; others may be left, and the directory is not synced.
    DedupFileRemoved, "dedup_file_removed";

    // Small files that are replaced as a whole: format, secret, note.
    /// The new bytes are synced under their temporary name.
    PublishWritten, "publish_written";

    // Opening a data directory.
    /// The ids of an id log are written once more in place and not synced.
    RecoveryIdsRewritten, "recovery_ids_rewritten";
    /// A file that a crash left released but named as part of the log is marked once more.
    RecoveryMarkedAgain, "recovery_marked_again";
    /// The log's tail is cut, its last frames are written once more in place, and nothing is synced.
    RecoveryTailRewritten, "recovery_tail_rewritten";
    /// The log is whole and synced; no record of it was looked at.
    RecoveryLogRead, "recovery_log_read";
    /// The ids of all records are in the window, in memory; no table is open.
    RecoveryIdsEntered, "recovery_ids_entered";
    /// The library has created a table, and we have synced nothing of it.
    TableCreated, "table_created";
    /// A file that a crash left unnamed is removed; others may be left.
    OrphanRemoved, "orphan_removed";
    /// All tables are open and tidied; the core has not started.
    TablesOpened, "tables_opened";
}

impl CrashPoint {
    /// Ends the process if this is the pass that `PENSTOCK_CRASH_AT` names. Does nothing without the
    /// feature. Panics if the variable names no point: a test that crashes nowhere proves nothing.
    #[inline]
    pub fn pass(self) {
        #[cfg(any(test, feature = "testing"))]
        armed::pass(self);
    }

    /// [`Self::pass`] for a caller that has only the name. False if there is no such point; always
    /// true without the feature.
    pub fn pass_named(name: &str) -> bool {
        #[cfg(any(test, feature = "testing"))]
        {
            let point = armed::named(name);
            point.inspect(|point| point.pass()).is_some()
        }
        #[cfg(not(any(test, feature = "testing")))]
        {
            let _ = name;
            true
        }
    }

    /// Every name that `PENSTOCK_CRASH_AT` takes; none without the feature.
    pub const fn names() -> &'static [&'static str] {
        #[cfg(any(test, feature = "testing"))]
        {
            Self::NAMES
        }
        #[cfg(not(any(test, feature = "testing")))]
        {
            &[]
        }
    }
}

#[cfg(any(test, feature = "testing"))]
mod armed {
    use std::io::Write as _;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::CrashPoint;

    const VARIABLE: &str = "PENSTOCK_CRASH_AT";

    /// The point to end at, and how often it is still to be passed.
    #[derive(Debug)]
    struct Armed {
        point: CrashPoint,
        passes_left: AtomicU64,
    }

    /// Read once: a process does not change its mind.
    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let armed = parse(&text);
        assert!(armed.is_some(), "{VARIABLE}={text} is no crash point");
        armed
    });

    pub(super) fn pass(point: CrashPoint) {
        if let Some(armed) = &*ARMED
            && armed.point == point
            && armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            end_at_once(point);
        }
    }

    pub(super) fn named(name: &str) -> Option<CrashPoint> {
        let mut points = CrashPoint::ALL.iter().copied();
        points.find(|point| point.name() == name)
    }

    fn parse(text: &str) -> Option<Armed> {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let point = named(name)?;
        let nth: u64 = nth.parse().ok().filter(|nth| *nth > 0)?;
        let passes_left = AtomicU64::new(nth);
        Some(Armed { point, passes_left })
    }

    fn end_at_once(point: CrashPoint) -> ! {
        let line = format!("crash point {} passed\n", point.name());
        // Where nobody listens, the exit status has to do.
        drop(std::io::stderr().write_all(line.as_bytes()));
        kill_process(getpid(), Signal::KILL).ok();
        // The signal is delivered before the call returns.
        std::process::abort()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_named_with_the_pass_that_counts_or_means_the_first() {
            for (text, passes) in [("cut_built", 1), ("cut_built:1", 1), ("cut_built:7", 7)] {
                let armed = parse(text).unwrap();
                assert_eq!(armed.point, CrashPoint::CutBuilt);
                assert_eq!(armed.passes_left.into_inner(), passes);
            }
            for wrong in ["", "cut", "cut_built:", "cut_built:0", "cut_built:-1", ":1"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }

        #[test]
        fn every_point_has_a_name_of_its_own() {
            assert_eq!(CrashPoint::ALL.len(), CrashPoint::names().len());
            for (point, name) in CrashPoint::ALL.iter().zip(CrashPoint::names()) {
                assert_eq!(named(name), Some(*point));
            }
            assert!(!CrashPoint::pass_named("nowhere"));
        }
    }
}

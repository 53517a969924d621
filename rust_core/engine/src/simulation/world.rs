//! One world: turns, faults and crashes under one seed, and what they must not change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use penstock_decode::Workspace;
use penstock_disk::{Crash, Fault, FaultyFilesystem, Filesystem, Operation, Random};
use penstock_model::{AckLevel, DecodeLimits, ManualClock};
use penstock_segment::{ByTable, SegmentFile, TableKind};
use penstock_wal::Log;

use super::model::Model;
use super::table::{CommitError, Table};
use crate::answer::Completion;
use crate::background::Turn;
use crate::cut::Cut;
use crate::engine::{Engine, Lives};
use crate::foreground::Ids;
use crate::options::EngineOptions;

const DATA_DIRECTORY: &str = "/data";

/// Turns of a world before it is drained.
const TURNS: u64 = 400;

/// A drain that has not ended after so many rounds never will.
const MAX_DRAIN_ROUNDS: u32 = 2_000;

/// What a world came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) crashes: u64,
    pub(super) acknowledged_events: u64,
}

/// One process.
struct Life {
    engine: Engine<u64>,
    lives: Lives<u64>,
    tables: ByTable<Table>,
    workspace: Workspace,
    ids: Ids,
}

pub(super) struct World {
    faulty: FaultyFilesystem,
    filesystem: Arc<dyn Filesystem>,
    clock: Arc<ManualClock>,
    random: Random,
    model: Model,
    life: Option<Life>,
    crashes: u64,
}

fn options(random: &mut Random) -> EngineOptions {
    EngineOptions {
        data_directory: PathBuf::from(DATA_DIRECTORY),
        flush_interval: Duration::from_secs(2),
        dedup_window: Duration::from_hours(24),
        dedup_memory_bytes: 1 << 20,
        dedup_disk_bytes: 64 << 20,
        limits: DecodeLimits::DEFAULT,
        max_recording_bytes: 8 << 20,
        max_in_flight_bytes: 1 << 20,
        max_wal_bytes: 4 << 20,
        wal_file_bytes: 32 << 10,
        max_group_bytes: 16 << 10,
        // Some records are built from the cache, others are read back.
        batch_cache_bytes: 16 << 10,
        segment: crate::segment_options(64 << 10, 2),
        decode_threads: 1,
        max_unnamed_projects: 10,
        disk_reserve_bytes: if random.once_in(2) { 64 << 10 } else { 0 },
        ack: AckLevel::Disk,
        allowed_ack: vec![AckLevel::Disk, AckLevel::Table],
        table_ack_timeout: Duration::from_secs(20),
        projects: Vec::new(),
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let faulty = FaultyFilesystem::new();
        let filesystem: Arc<dyn Filesystem> = Arc::new(faulty.clone());
        Self {
            faulty,
            filesystem,
            clock: Arc::new(ManualClock::at(1_767_225_600_000_000)),
            random: Random::new(seed),
            model: Model::default(),
            life: None,
            crashes: 0,
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        self.begin_life(true);
        for _ in 0..TURNS {
            self.turn();
            self.collect_answers();
            if self.faulty.is_off() {
                self.end_life();
                self.begin_life(true);
            }
        }
        self.drain();
        if self.random.once_in(2) {
            // What the tables say must not hang on anything unsynced.
            self.cut_power(Crash::LoseUnsynced);
            self.begin_life(false);
        }
        let tables = &self.life().tables;
        let rows = ByTable::from_fn(|table| tables[table].rows());
        self.model.check(&rows);
        Outcome {
            crashes: self.crashes,
            acknowledged_events: self.model.acknowledged_events(),
        }
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().unwrap()
    }

    // Lives.

    /// Opens tables and engine as the service does, dying on the way now and then.
    fn begin_life(&mut self, may_fail: bool) {
        for _ in 0..100 {
            if may_fail && self.random.once_in(3) {
                self.plan_crash();
            }
            if may_fail && self.random.once_in(6) {
                self.plan_fault();
            }
            let begun = self.open();
            if self.faulty.is_off() {
                drop(begun);
                self.end_life();
                continue;
            }
            self.faulty.heal();
            match begun {
                Ok(life) => {
                    self.life = Some(life);
                    return;
                }
                Err(error) => assert!(may_fail, "no opening, without a fault: {error}"),
            }
        }
        panic!("no life begins");
    }

    fn open(&mut self) -> Result<Life, String> {
        let engine = Engine::open_with(
            options(&mut self.random),
            Arc::clone(&self.filesystem),
            Arc::clone(&self.clock) as Arc<_>,
            Log::open_without_threads,
        )
        .map_err(|error| error.to_string())?;
        for event in engine.take_log_events() {
            // Nothing here rots, so whatever is left unfinished is a torn tail (WAL-2).
            let is_torn_tail = event.name != "log_damaged";
            assert!(is_torn_tail, "{event:?}");
        }
        let open = |kind| Table::open(&self.filesystem, Path::new(DATA_DIRECTORY), kind);
        let opened = TableKind::ALL.into_iter().map(open);
        let opened: std::io::Result<Vec<Table>> = opened.collect();
        let mut opened = opened.map_err(|error| error.to_string())?.into_iter();
        let tables = ByTable::from_fn(|_| opened.next().unwrap());
        let committed: Vec<_> = tables.values().flat_map(Table::committed).collect();
        let lives = engine
            .begin(&committed)
            .map_err(|error| error.to_string())?;
        engine.shared.admission.start();
        Ok(Life {
            engine,
            lives,
            tables,
            workspace: Workspace::default(),
            ids: Ids::default(),
        })
    }

    /// The process is dead already, or dies now without the machine.
    fn end_life(&mut self) {
        self.life = None;
        self.faulty.heal();
        self.model.process_died(&mut self.random);
    }

    /// Cuts the power, or kills the process, between two turns.
    fn cut_power(&mut self, crash: Crash) {
        self.crashes += 1;
        self.faulty.heal();
        self.faulty.crash_before(1, crash);
        // The process that meets the crash is the one that goes on calling.
        assert!(self.filesystem.create_dir(Path::new("/x")).is_err());
        assert!(self.faulty.is_off());
        self.end_life();
    }

    fn some_crash(&mut self) -> Crash {
        match self.random.below(4) {
            0 => Crash::LoseUnsynced,
            1 => Crash::KeepUnsynced,
            _ => Crash::KeepSome {
                seed: self.random.next(),
            },
        }
    }

    fn plan_crash(&mut self) {
        self.crashes += 1;
        let crash = self.some_crash();
        let operations = 1 + self.random.below(40);
        self.faulty.crash_before(operations, crash);
    }

    fn plan_fault(&mut self) {
        let operation = [
            Operation::Create,
            Operation::Write,
            Operation::Allocate,
            Operation::SetLen,
            Operation::Sync,
            Operation::Rename,
            Operation::Remove,
            Operation::SyncDir,
        ][usize::try_from(self.random.below(8)).unwrap_or(0)];
        let fault = match (operation, self.random.below(3)) {
            (Operation::Write, 0) => Fault::Short {
                bytes: usize::try_from(self.random.below(3_000)).unwrap_or(0),
            },
            (Operation::Create | Operation::Write | Operation::Allocate, 1) => Fault::DiskFull,
            _ => Fault::Io,
        };
        let nth = 1 + self.random.below(10);
        self.faulty.fail_nth(operation, nth, fault);
    }

    // Turns.

    fn turn(&mut self) {
        match self.random.below(100) {
            0..25 => self.submit(),
            25..45 => self.decode(),
            45..62 => {
                self.life().engine.log.step();
            }
            62..74 => {
                self.life().lives.background.turn();
            }
            74..82 => self.commit(),
            82..86 => self.life().lives.supervisor.turn(),
            86..87 => self.life().lives.tidier.turn(),
            87..89 => self.life().lives.sealer.turn(),
            89..92 => {
                let millis = self.random.below(1_500);
                self.clock.advance(Duration::from_millis(millis));
            }
            92..94 => self.plan_fault(),
            94..98 => self.plan_crash(),
            _ => {
                let crash = self.some_crash();
                self.cut_power(crash);
                self.begin_life(true);
            }
        }
    }

    fn submit(&mut self) {
        let (ticket, submission) = self.model.next_request(&mut self.random);
        self.hand_in(ticket, submission);
    }

    fn hand_in(&mut self, ticket: u64, submission: crate::answer::Submission) {
        if let Err((ticket, refusal)) = self.life().engine.submit(ticket, submission) {
            self.model.answered(ticket, &Completion::Refused(refusal));
        }
    }

    fn decode(&mut self) {
        let life = self.life();
        life.engine
            .foreground
            .work_once(&mut life.workspace, &mut life.ids);
    }

    /// What the committer does with a cut, if there is one.
    fn commit(&mut self) {
        let Some(cut) = self.life().engine.next_cut(Duration::ZERO) else {
            return;
        };
        match self.commit_cut(&cut) {
            Ok(()) | Err(CommitError::Again) => {}
            // An operator restarts it; what is unsynced stays in the page cache.
            Err(CommitError::Hold) if self.faulty.is_off() => {}
            Err(CommitError::Hold) => {
                self.end_life();
                self.begin_life(true);
            }
        }
    }

    fn commit_cut(&mut self, cut: &Cut) -> Result<(), CommitError> {
        let txns: Vec<_> = cut
            .lanes
            .iter()
            .map(|lane| (lane.lane, lane.position))
            .collect();
        let life = self.life();
        let mut committed = Vec::new();
        for kind in TableKind::ALL {
            let table = &mut life.tables[kind];
            let files: Vec<&SegmentFile> =
                cut.files.iter().filter(|file| file.table == kind).collect();
            if !files.is_empty() || cut.releases {
                table.commit(&files, &txns)?;
                committed.push(kind);
            }
        }
        life.engine
            .cut_committed(cut.position, &committed, b"{}")
            .map_err(|_| CommitError::Again)
    }

    fn collect_answers(&mut self) {
        let Some(life) = &mut self.life else {
            return;
        };
        for (ticket, completion) in life.engine.drain() {
            let Life { tables, .. } = life;
            // A process that died in this turn may have answered before that.
            if !self.model.answered(ticket, &completion) || self.faulty.is_off() {
                continue;
            }
            // ACK-1 at the level of the table.
            let (table, uuids, mark) = self.model.texts_of(ticket);
            let stored = tables[table].rows();
            assert!(uuids.iter().all(|uuid| stored.contains(uuid)));
            if let Some(mark) = mark {
                let rejected = tables[TableKind::Rejected].rows();
                assert!(rejected.iter().any(|raw| raw.contains(&mark)));
            }
        }
    }

    /// Lets everything come to its end, without faults: what was not answered is sent until it is,
    /// and all of it goes to the tables.
    fn drain(&mut self) {
        self.faulty.heal();
        for _ in 0..MAX_DRAIN_ROUNDS {
            if let Some((ticket, submission)) = self.model.next_unanswered(&mut self.random) {
                self.hand_in(ticket, submission);
            }
            self.decode();
            let life = self.life();
            life.engine.log.step();
            life.engine.flush();
            while matches!(life.lives.background.turn(), Turn::Again) {}
            life.lives.supervisor.turn();
            life.lives.tidier.turn();
            life.lives.sealer.turn();
            self.commit();
            self.clock.advance(Duration::from_millis(200));
            self.collect_answers();
            let (records, _) = self.life().engine.backlog();
            if self.model.nothing_open() && records == 0 {
                return;
            }
        }
        let state = self.life().engine.state();
        panic!("it does not come to an end: {state:?}");
    }
}

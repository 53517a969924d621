//! A machine with one data directory: its disk, its clock, its clients, and the processes that it
//! runs one after the other. One thread takes the turns of all their threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_decode::Workspace;
use penstock_dedup::{Dedup, DedupStats};
use penstock_disk::{Crash, FaultyFilesystem, Filesystem, Random};
use penstock_model::{AckLevel, Clock as _, DecodeLimits, ManualClock, Position};
use penstock_segment::{Codec, SegmentFile, SegmentOptions, TableKind};
use penstock_wal::Log;

use super::counts::Counts;
use super::model::{Allowed, Found, Model};
use super::note;
use super::probe::{self, Moment};
use super::quarantine;
use super::request::{Level, Request};
use super::table::{CommitError, Mishap, Table};
use crate::answer::{Completion, Submission};
use crate::background::Turn;
use crate::cut::Cut;
use crate::engine::{Engine, Lives};
use crate::foreground::Ids;
use crate::journal::LogEvent;
use crate::options::EngineOptions;
use crate::shared::Shared;

pub(super) const DATA_DIRECTORY: &str = "/data";

/// 2026-01-01T00:00:00Z.
const START_US: i64 = 1_767_225_600_000_000;

/// The year 12,000, which no table can hold.
const UNSTORABLE_US: i64 = 316_516_204_800_000_000;

/// A drain that has not ended after so many rounds never will.
const MAX_DRAIN_ROUNDS: u32 = 500;

/// Turns of the background after which it is let be: on a full disk it begins anew for ever.
const MAX_BUILD_TURNS: u32 = 100;

/// The window is counted from one tick of the supervisor to another, which here come late.
const TICKS_MS: u64 = 3_000;

/// Openings that may fail before one must not.
const MAX_OPENINGS: u32 = 100;

/// One process.
pub(super) struct Life {
    pub(super) engine: Engine<u64>,
    pub(super) lives: Lives<u64>,
    pub(super) tables: Vec<Table>,
    workspace: Workspace,
    ids: Ids,
}

/// What openings told of that should not be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Positions of records that can't be read.
    pub(super) damage: Vec<(Position, Position)>,
    pub(super) torn_tails: u32,
    pub(super) dedup_damage: u32,
}

pub(super) struct Machine {
    pub(super) faulty: FaultyFilesystem,
    pub(super) filesystem: Arc<dyn Filesystem>,
    pub(super) clock: Arc<ManualClock>,
    /// Running time of earlier lives.
    earlier_ms: u64,
    pub(super) random: Random,
    pub(super) model: Model,
    pub(super) life: Option<Life>,
    pub(super) options: EngineOptions,
    /// Whether damage may be met: nothing rots by itself.
    pub(super) may_be_damaged: bool,
    pub(super) told: Told,
    /// Budgets have shortened the window, and the metrics said so.
    window_was_shortened: bool,
    /// The process that runs: its answers are counted when the disk is copied.
    running: Arc<Mutex<Option<Arc<Shared<u64>>>>>,
}

/// Memory for generations of 56 ids, the smallest that there are: ids soon go to the disk.
pub(super) const SMALL_DEDUP_MEMORY_BYTES: u64 = 16 << 10;

/// Sizes at which a short life meets every border: a file holds a few groups, a table's file a few
/// rows, the cache a few batches.
pub(super) fn options() -> EngineOptions {
    EngineOptions {
        data_directory: PathBuf::from(DATA_DIRECTORY),
        flush_interval: Duration::from_secs(2),
        dedup_window: Duration::from_hours(24),
        dedup_memory_bytes: 64 << 10,
        dedup_disk_bytes: 64 << 20,
        limits: DecodeLimits::DEFAULT,
        max_recording_bytes: 8 << 20,
        max_in_flight_bytes: 1 << 20,
        max_wal_bytes: 4 << 20,
        wal_file_bytes: 16 << 10,
        max_group_bytes: 6 << 10,
        // Some records are built from the cache, others are read back.
        batch_cache_bytes: 8 << 10,
        segment: SegmentOptions {
            // Compression is the parquet crate's; it would take half of the time here.
            codec: Codec::None,
            row_group_rows: 3,
            batch_rows: 2,
            ..crate::segment_options(64 << 10, 2)
        },
        decode_threads: 1,
        max_unnamed_projects: 10,
        disk_reserve_bytes: 0,
        ack: AckLevel::Disk,
        allowed_ack: vec![AckLevel::Memory, AckLevel::Disk, AckLevel::Table],
        table_ack_timeout: Duration::from_secs(20),
        discard_client_ip: false,
        projects: Vec::new(),
    }
}

impl Machine {
    pub(super) fn new(seed: u64, options: EngineOptions) -> Self {
        let (model, random) = (Model::default(), Random::new(seed));
        Self::on(FaultyFilesystem::new(), model, random, options)
    }

    /// A machine on which no process runs.
    pub(super) fn on(
        faulty: FaultyFilesystem,
        model: Model,
        random: Random,
        options: EngineOptions,
    ) -> Self {
        let filesystem: Arc<dyn Filesystem> = Arc::new(faulty.clone());
        Self {
            faulty,
            filesystem,
            clock: Arc::new(ManualClock::at(START_US)),
            earlier_ms: 0,
            random,
            model,
            life: None,
            options,
            may_be_damaged: false,
            told: Told::default(),
            window_was_shortened: false,
            running: Arc::default(),
        }
    }

    /// Another machine, on a copy of the disk, with the same clients. It writes one plain file for
    /// each partition of a cut: building Parquet is most of what looking at a crash costs, and the
    /// machine that is copied has files of all other kinds.
    pub(super) fn copied(&self, faulty: FaultyFilesystem, model: Model, seed: u64) -> Self {
        let mut options = self.options.clone();
        options.segment = SegmentOptions {
            codec: Codec::None,
            row_group_rows: 1_000,
            batch_rows: 1_000,
            ..crate::segment_options(64 << 20, 8)
        };
        let mut copy = Self::on(faulty, model, Random::new(seed), options);
        copy.earlier_ms = self.running_ms();
        copy.clock.set_wall(self.clock.unix_micros());
        copy.window_was_shortened = self.window_was_shortened();
        copy
    }

    /// Running time of all processes so far.
    pub(super) fn running_ms(&self) -> u64 {
        self.earlier_ms + self.clock.monotonic_nanos() / 1_000_000
    }

    // Lives.

    /// Opens engine and tables as the service does, the engine first.
    pub(super) fn open(&mut self) -> Result<(), String> {
        // Another process: its monotonic clock begins anew.
        self.earlier_ms = self.running_ms();
        self.clock = Arc::new(ManualClock::at(self.clock.unix_micros()));
        let engine = Engine::open_with(
            self.options.clone(),
            Arc::clone(&self.filesystem),
            Arc::clone(&self.clock) as Arc<_>,
            Log::open_without_threads,
        )
        .map_err(|error| error.to_string())?;
        for event in engine.take_log_events() {
            self.take_event(&event);
        }
        let noted = engine.table_note().map_err(|error| error.to_string())?;
        let mut tables = Vec::new();
        for kind in TableKind::ALL {
            let note = noted.as_deref().map(|bytes| note::read(bytes, kind));
            let root = Path::new(DATA_DIRECTORY);
            let table = Table::open(&self.faulty, root, kind, note.as_ref());
            tables.push(table.map_err(|error| error.to_string())?);
        }
        let committed: Vec<_> = tables.iter().flat_map(Table::committed).collect();
        let lives = engine
            .begin(&committed)
            .map_err(|error| error.to_string())?;
        engine.shared.admission.start();
        *self.running.lock() = Some(Arc::clone(&engine.shared));
        self.life = Some(Life {
            engine,
            lives,
            tables,
            workspace: Workspace::default(),
            ids: Ids::default(),
        });
        Ok(())
    }

    /// Opens, with no fault in the way.
    pub(super) fn begin(&mut self) {
        self.faulty.heal();
        if let Err(error) = self.open() {
            panic!("no opening, without a fault: {error}");
        }
    }

    fn take_event(&mut self, event: &LogEvent) {
        let field = |name: &str| {
            let field = event.fields.iter().find(|(other, _)| *other == name);
            Position::new(field.unwrap().1.parse().unwrap())
        };
        match event.name {
            "log_damaged" => {
                assert!(self.may_be_damaged, "nothing rots here (WAL-2): {event:?}");
                self.told
                    .damage
                    .push((field("first_position"), field("last_position")));
            }
            "log_tail_cut" => self.told.torn_tails += 1,
            "dedup_damaged" => {
                assert!(self.may_be_damaged, "nothing rots here (DUP-2): {event:?}");
                self.told.dedup_damage += 1;
            }
            // Of ids that were synced once this is damage too; it can't be told apart.
            "dedup_tail_cut" => self.told.dedup_damage += 1,
            _ => {}
        }
    }

    pub(super) fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("a process runs")
    }

    fn window_was_shortened(&self) -> bool {
        self.window_was_shortened || self.dedup_stats().ids_dropped_early > 0
    }

    /// All zero if no process runs.
    pub(super) fn dedup_stats(&self) -> DedupStats {
        self.life.as_ref().map_or_else(DedupStats::default, |life| {
            let sequencer = life.engine.shared.sequencer.lock();
            sequencer
                .dedup
                .as_ref()
                .map_or_else(DedupStats::default, Dedup::stats)
        })
    }

    /// Whether an id may be stored twice because the window has let it go.
    pub(super) fn may_double(&self) -> bool {
        self.options.dedup_window < Duration::from_hours(1) || self.window_was_shortened()
    }

    /// The process is dead already, or dies now without the machine.
    pub(super) fn end_life(&mut self) {
        self.window_was_shortened = self.window_was_shortened();
        self.running.lock().take();
        self.life = None;
        self.faulty.heal();
        self.model.process_died(&mut self.random);
    }

    /// The process dies as `crash` says; every client that waits will ask again.
    pub(super) fn crash(&mut self, crash: Crash) {
        self.window_was_shortened = self.window_was_shortened();
        self.faulty.crash(crash);
        self.running.lock().take();
        self.life = None;
        self.model.process_died_and_all_ask_again();
    }

    /// Opens until it works; whatever was planned on the disk strikes on the way. `after` is called
    /// behind each try.
    pub(super) fn open_in_the_end(&mut self, mut before: impl FnMut(&mut Self)) {
        for _ in 0..MAX_OPENINGS {
            before(self);
            let begun = self.open();
            if self.faulty.is_off() {
                self.end_life();
                continue;
            }
            self.faulty.heal();
            match begun {
                Ok(()) => return,
                // Also of a disk that is full.
                Err(_) => self.faulty.set_capacity_bytes(None),
            }
        }
        panic!("no life begins");
    }

    // Clients.

    pub(super) fn send(&mut self, request: Request) -> u64 {
        let now_ms = self.running_ms();
        let (number, submission) = self.model.send(request, now_ms);
        self.hand_in(number, submission);
        number
    }

    /// A new request, or one again that was not answered.
    pub(super) fn send_something(&mut self) {
        let now_ms = self.running_ms();
        let (number, submission) = self.model.next_request(&mut self.random, now_ms);
        self.hand_in(number, submission);
    }

    /// Sends all again that was not answered.
    pub(super) fn send_unanswered(&mut self) {
        let now_ms = self.running_ms();
        while let Some((number, submission)) = self.model.next_unanswered(&mut self.random, now_ms)
        {
            if !self.hand_in(number, submission) {
                return;
            }
        }
    }

    /// False if it was refused at once.
    fn hand_in(&mut self, number: u64, submission: Submission) -> bool {
        let now_us = self.clock.unix_micros();
        if self.model.request(number).unstorable {
            self.clock.set_wall(UNSTORABLE_US);
        }
        let taken = self.life().engine.submit(number, submission);
        self.clock.set_wall(now_us);
        if let Err((number, refusal)) = taken {
            self.model.answered(number, &Completion::Refused(refusal));
            return false;
        }
        true
    }

    pub(super) fn take_answers(&mut self) -> Vec<(u64, Completion)> {
        self.life
            .as_ref()
            .map_or_else(Vec::new, |life| life.engine.drain())
    }

    pub(super) fn answer(&mut self, number: u64, completion: &Completion) {
        let succeeded = self.model.answered(number, completion);
        let request = Arc::clone(self.model.request(number));
        // A process that died in this turn may have answered before that.
        let is_known = !self.faulty.is_off() && !self.may_be_damaged;
        if succeeded && request.level == Level::Table && is_known {
            let found = self.found();
            let (ids, rejected) = (&found.ids, &found.rejected);
            // ACK-1 at the level of the table. What went to quarantine covers its position.
            assert!(request.ids.iter().all(|id| ids.contains(id)), "{request:?}");
            assert!(!request.has_rejected || rejected.contains(&number));
        }
    }

    pub(super) fn collect_answers(&mut self) {
        for (number, completion) in self.take_answers() {
            self.answer(number, &completion);
        }
    }

    // Crashes on copies of the disk.

    /// From now on [`Self::settle`] looks at every disk that a crash on the way would have left.
    pub(super) fn watch(&self) {
        let running = Arc::clone(&self.running);
        self.faulty.watch(move || {
            let running = running.lock();
            let shared = running.as_ref();
            shared.map_or(0, |shared| shared.completions.waiting())
        });
    }

    /// Crashes at every operation since the last call, and takes the answers since then. Behind a
    /// crash only those count that were given before it.
    pub(super) fn settle(&mut self, seed: u64, counts: &mut Counts) {
        let forks = self.faulty.take_forks();
        let answers = self.take_answers();
        let mut given = 0;
        for fork in &forks {
            while given < fork.mark.min(answers.len()) {
                let (number, completion) = &answers[given];
                self.answer(*number, completion);
                given += 1;
            }
            probe::all_crashes(self, &Moment { seed, fork }, counts);
        }
        for (number, completion) in &answers[given..] {
            self.answer(*number, completion);
        }
    }

    // Turns of a process.

    pub(super) fn decode(&mut self) -> bool {
        let now_ms = self.running_ms();
        self.model.looked_at(now_ms);
        let life = self.life();
        life.engine
            .foreground
            .work_once(&mut life.workspace, &mut life.ids)
    }

    /// Decodes what is queued, and writes it in groups.
    pub(super) fn take_in(&mut self) {
        while self.decode() {}
        while self.life().engine.log.step() {}
    }

    /// Builds all that is durable, up to a cut if there is room for one.
    pub(super) fn build(&mut self) {
        let life = self.life();
        life.engine.flush();
        for _ in 0..MAX_BUILD_TURNS {
            if !matches!(life.lives.background.turn(), Turn::Again) {
                return;
            }
        }
    }

    /// What the committer does with a cut, if there is one.
    pub(super) fn commit(&mut self, mishap: Mishap) -> Result<(), CommitError> {
        let Some(cut) = self.life().engine.next_cut(Duration::ZERO) else {
            return Ok(());
        };
        let kept = self.random.below(4);
        let life = self.life();
        let mut committed = Vec::new();
        for table in &mut life.tables {
            let files = files_of(&cut, table.kind);
            if !files.is_empty() || cut.releases {
                table.commit(&files, &txns(&cut), mishap)?;
                committed.push(table.kind);
            }
        }
        let note = note::write(&life.tables);
        life.engine
            .cut_committed(cut.position, &committed, &note)
            .map_err(|_| CommitError::Again)?;
        for table in &mut life.tables {
            table.checkpoint_if_due(kept);
        }
        Ok(())
    }

    /// Lets everything come to its end, without faults: what was not answered is sent until it is,
    /// and all of it goes to the tables.
    pub(super) fn drain(&mut self) {
        self.faulty.heal();
        self.faulty.set_capacity_bytes(None);
        for _ in 0..MAX_DRAIN_ROUNDS {
            self.send_unanswered();
            self.take_in();
            self.life().lives.supervisor.turn();
            self.build();
            if self.commit(Mishap::default()).is_err() && self.faulty.is_off() {
                return;
            }
            self.life().lives.tidier.turn();
            self.life().lives.sealer.turn();
            self.collect_answers();
            let (records, _) = self.life().engine.backlog();
            if self.model.nothing_open() && records == 0 {
                return;
            }
            if self.faulty.is_off() {
                return;
            }
            self.clock.advance(Duration::from_millis(200));
        }
        let state = self.life().engine.state();
        panic!("it does not come to an end: {state:?}");
    }

    // What is there.

    pub(super) fn found(&self) -> Found {
        let mut found = quarantine::found(&self.faulty);
        if let Some(life) = &self.life {
            for table in &life.tables {
                found.extend(&table.found());
            }
        }
        found
    }

    /// Holds all that is stored against what clients were told.
    pub(super) fn check(&mut self) {
        self.check_but(Allowed::default());
    }

    /// Takes what the process has told since it came up.
    pub(super) fn take_events(&mut self) {
        for event in self.life().engine.take_log_events() {
            self.take_event(&event);
        }
    }

    pub(super) fn check_but(&mut self, allowed: Allowed) {
        self.take_events();
        assert!(
            self.may_be_damaged || self.dedup_stats().damaged_runs == 0,
            "no run of ids is given up for what passes (DUP-2)"
        );
        let window_ms = u64::try_from(self.options.dedup_window.as_millis()).unwrap();
        let allowed = Allowed {
            window_ms: window_ms - TICKS_MS,
            doubled: allowed.doubled || self.window_was_shortened(),
            ..allowed
        };
        self.model.check(&self.found(), &allowed);
    }

    /// Everything to the tables, then the power is cut: what they say must not hang on anything that
    /// is unsynced.
    pub(super) fn drain_and_check(&mut self) {
        self.drain();
        self.crash(Crash::LoseUnsynced);
        self.begin();
        self.check();
    }
}

pub(super) fn files_of(cut: &Cut, kind: TableKind) -> Vec<&SegmentFile> {
    cut.files.iter().filter(|file| file.table == kind).collect()
}

pub(super) fn txns(cut: &Cut) -> Vec<(penstock_model::LaneId, Position)> {
    let lanes = cut.lanes.iter();
    lanes.map(|lane| (lane.lane, lane.position)).collect()
}

//! One world: turns, faults and crashes under one seed, and what they must not change.

use std::path::Path;
use std::time::Duration;

use penstock_disk::{Crash, Fault, Operation};
use penstock_model::Clock as _;
use penstock_segment::Codec;

use super::counts::Counts;
use super::machine::{DATA_DIRECTORY, Machine, SMALL_DEDUP_MEMORY_BYTES, options};
use super::probe;
use super::query::Query;
use super::request::Request;
use super::rot;
use super::table::{CommitError, Mishap};

/// Turns of a world before it is drained. Each event of it is looked at behind each crash, so many
/// short worlds show more than a few long ones.
const TURNS: u64 = 90;

/// By how much the wall clock jumps.
const YEAR_US: i64 = 365 * 24 * 3_600 * 1_000_000;

/// Disk left when it is about to be full.
const MAX_FREE_BYTES: u64 = 60 << 10;

/// Generations of ids that some worlds begin with, and the ids of each: enough for files to be merged.
const EARLIER_GENERATIONS: u64 = 5;
const GENERATION_IDS: u64 = 56;

pub(super) struct World {
    seed: u64,
    machine: Machine,
    counts: Counts,
    query: Option<Query>,
    /// Whether the disk fails in many turns, so that failures meet: of what failed before, of what is
    /// mended, and of a start.
    fails_often: bool,
    /// Whether an earlier life has left ids on the disk.
    has_earlier_ids: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut machine = Machine::new(seed, options());
        let random = &mut machine.random;
        let options = &mut machine.options;
        if random.once_in(6) {
            options.dedup_window = Duration::from_secs(10);
        }
        if random.once_in(2) {
            options.disk_reserve_bytes = 32 << 10;
        }
        if random.once_in(3) {
            // Ids go to the disk and are merged.
            options.dedup_memory_bytes = SMALL_DEDUP_MEMORY_BYTES;
        }
        if random.once_in(8) {
            options.segment.codec = Codec::Zstd(1);
        }
        if random.once_in(4) {
            options.batch_cache_bytes = 0;
        }
        let fails_often = random.once_in(8);
        let is_small = options.dedup_memory_bytes == SMALL_DEDUP_MEMORY_BYTES;
        let has_earlier_ids = is_small && random.once_in(3);
        Self {
            fails_often,
            has_earlier_ids,
            seed,
            machine,
            counts: Counts::default(),
            query: None,
        }
    }

    pub(super) fn run(mut self) -> Counts {
        if self.has_earlier_ids {
            self.live_before();
        }
        self.machine.watch();
        self.begin_life();
        for _ in 0..TURNS {
            self.turn();
            self.settle();
            if self.machine.faulty.is_off() {
                self.machine.end_life();
                self.begin_life();
            }
        }
        self.machine.faulty.unwatch();
        self.machine.drain();
        self.machine.check_ledger();
        if self.machine.random.once_in(2) {
            // What the tables say must not hang on anything unsynced.
            self.counts.crash_points += 1;
            self.machine.crash(Crash::LoseUnsynced);
            self.machine.begin();
        }
        self.machine.check();
        self.counts.operations = self.machine.faulty.operations();
        self.counts.acknowledged_events = self.machine.model.acknowledged_ids().len() as u64;
        self.counts
    }

    // Lives.

    /// A life before the one that is looked at, whose ids are on the disk, and not merged yet.
    fn live_before(&mut self) {
        let machine = &mut self.machine;
        machine.begin();
        for _ in 0..EARLIER_GENERATIONS {
            let ids = machine.model.new_ids(GENERATION_IDS);
            machine.send(Request::of(ids));
            machine.take_in();
            machine.life().lives.supervisor.turn();
        }
        machine.build();
        machine
            .commit(Mishap::default())
            .expect("nothing is in its way");
        machine.collect_answers();
        machine.end_life();
    }

    fn begin_life(&mut self) {
        self.query = None;
        let jump = self.machine.random.once_in(5);
        if jump {
            self.jump();
        }
        let Self {
            seed,
            machine,
            counts,
            ..
        } = self;
        machine.open_in_the_end(|machine| {
            machine.settle(*seed, counts);
            if machine.random.once_in(3) {
                counts.crash_points += 1;
                plan_crash(machine);
            }
            if machine.random.once_in(6) {
                plan_fault(machine);
            }
        });
        machine.settle(*seed, counts);
    }

    /// Cuts the power, or kills the process, between two turns.
    fn cut_power(&mut self) {
        self.counts.crash_points += 1;
        let crash = probe::some_crash(&mut self.machine.random);
        self.machine.faulty.heal();
        self.machine.faulty.crash_before(1, crash);
        // The process that meets the crash is the one that goes on calling.
        let met = self.machine.filesystem.create_dir(Path::new("/x"));
        assert!(met.is_err() && self.machine.faulty.is_off());
        self.settle();
        self.machine.end_life();
    }

    fn settle(&mut self) {
        self.machine.settle(self.seed, &mut self.counts);
        let runs = runs(&self.machine);
        self.counts.worlds_with_runs |= u64::from(!runs.is_empty());
        let merged = |(first, last): &(String, String)| first != last;
        self.counts.worlds_with_merged_runs |= u64::from(runs.iter().any(merged));
        if self.machine.random.once_in(20) && !self.machine.faulty.is_off() {
            let fork = self.machine.faulty.fork();
            self.counts.rotten_disks += rot::check(&self.machine, &fork);
        }
    }

    // Turns.

    fn turn(&mut self) {
        let machine = &mut self.machine;
        if self.fails_often && machine.random.once_in(5) {
            plan_fault(machine);
        }
        match machine.random.below(100) {
            0..25 => machine.send_something(),
            25..42 => {
                machine.decode();
            }
            42..58 => {
                machine.life().engine.log.step();
            }
            58..69 => {
                machine.life().lives.background.turn();
            }
            69..77 => self.commit(),
            77..80 => {
                machine.life().lives.supervisor.turn();
                if machine.random.once_in(2) {
                    machine.life().lives.tidier.turn();
                }
            }
            80 => machine.life().lives.tidier.turn(),
            81 => machine.life().lives.sealer.turn(),
            82..86 => {
                // Now and then beyond the shorter window.
                let most = if machine.random.once_in(6) {
                    15_000
                } else {
                    1_500
                };
                let millis = machine.random.below(most);
                machine.clock.advance(Duration::from_millis(millis));
                machine.life().lives.supervisor.turn();
            }
            86..88 => self.jump(),
            88..91 => self.ask(),
            91..93 => plan_fault(machine),
            93 => {
                let free = machine.random.below(MAX_FREE_BYTES);
                let capacity = machine.faulty.used_bytes() + free;
                let full = machine.random.once_in(2).then_some(capacity);
                machine.faulty.set_capacity_bytes(full);
            }
            94..97 => {
                self.counts.crash_points += 1;
                plan_crash(machine);
            }
            97 => machine.life().engine.flush(),
            _ => {
                self.cut_power();
                self.begin_life();
            }
        }
    }

    /// An operator, or a time server, sets the wall clock.
    fn jump(&mut self) {
        let now_us = self.machine.clock.unix_micros();
        let to_us = match self.machine.random.below(3) {
            0 => now_us + YEAR_US,
            1 => now_us - YEAR_US,
            _ => now_us + 1_000_000,
        };
        self.machine.clock.set_wall(to_us);
    }

    /// Another process asks for all rows: the log first, the tables a while later.
    fn ask(&mut self) {
        if self.machine.faulty.is_off() {
            return;
        }
        match self.query.take() {
            None => self.query = Query::begin(&self.machine),
            Some(query) => query.end(&self.machine),
        }
    }

    fn commit(&mut self) {
        let mishap = Mishap {
            raises_after_landing: self.machine.random.once_in(8),
        };
        match self.machine.commit(mishap) {
            Ok(()) | Err(CommitError::Again) => {}
            // An operator restarts it; what is unsynced stays in the page cache.
            Err(CommitError::Hold) if self.machine.faulty.is_off() => {}
            Err(CommitError::Hold) => {
                self.settle();
                self.machine.end_life();
                self.begin_life();
            }
        }
    }
}

/// First and last number of each run of ids on the disk.
fn runs(machine: &Machine) -> Vec<(String, String)> {
    let directory = Path::new(DATA_DIRECTORY).join("dedup");
    // Not there before the first life.
    let names = machine.filesystem.read_dir(&directory).unwrap_or_default();
    let names = names.iter().filter_map(|name| name.to_str());
    names
        .filter_map(|name| {
            let numbers = name.strip_prefix("run-")?.strip_suffix(".run")?;
            let (first, last) = numbers.split_once('-')?;
            Some((first.to_owned(), last.to_owned()))
        })
        .collect()
}

fn plan_crash(machine: &mut Machine) {
    let crash = probe::some_crash(&mut machine.random);
    let operations = 1 + machine.random.below(40);
    machine.faulty.crash_before(operations, crash);
}

fn plan_fault(machine: &mut Machine) {
    const OPERATIONS: [Operation; 10] = [
        Operation::Open,
        Operation::Create,
        Operation::Read,
        Operation::Write,
        Operation::Allocate,
        Operation::SetLen,
        Operation::Sync,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDir,
    ];
    let random = &mut machine.random;
    let operation = OPERATIONS[usize::try_from(random.below(10)).unwrap()];
    let fault = match (operation, random.below(3)) {
        (Operation::Write, 0) => Fault::Short {
            bytes: usize::try_from(random.below(3_000)).unwrap(),
        },
        (Operation::Create | Operation::Write | Operation::Allocate, 1) => Fault::DiskFull,
        _ => Fault::Io,
    };
    let nth = 1 + random.below(10);
    machine.faulty.fail_nth(operation, nth, fault);
}

//! Random lives of a log against a plain list (WAL-1, WAL-3).

use std::collections::BTreeMap;

use penstock_disk::{Crash, Fault, Operation};
use penstock_model::Position;
use proptest::prelude::*;

use super::support::*;
use crate::{GapKind, LogItem, LogState};

#[derive(Clone, Debug)]
enum Act {
    Append {
        size: usize,
    },
    Step,
    FailSync {
        nth: u64,
    },
    FailWrite {
        bytes: usize,
    },
    FailOther {
        operation: Operation,
    },
    Crash(Crash),
    /// The machine crashes in what follows, before this many more changes.
    CrashBefore {
        nth: u64,
        crash: Crash,
    },
    /// It crashes, and once more while the log is opened.
    CrashTwice {
        nth: u64,
        crashes: (Crash, Crash),
    },
    Reopen,
    Release {
        back: u64,
    },
    /// Seals what can be sealed, or fails half-way.
    Seal,
    Check,
}

fn acts() -> impl Strategy<Value = Act> {
    let crash = || {
        prop_oneof![
            Just(Crash::LoseUnsynced),
            Just(Crash::KeepUnsynced),
            any::<u64>().prop_map(|seed| Crash::KeepSome { seed }),
            any::<u64>().prop_map(|seed| Crash::KeepSome { seed }),
        ]
    };
    let operation = prop_oneof![
        Just(Operation::Allocate),
        Just(Operation::Create),
        Just(Operation::SyncDir),
        Just(Operation::Rename),
        Just(Operation::SetLen),
    ];
    prop_oneof![
        8 => prop_oneof![0..50usize, 0..1500usize, 1000..9000usize]
            .prop_map(|size| Act::Append { size }),
        6 => Just(Act::Step),
        1 => (1..4u64).prop_map(|nth| Act::FailSync { nth }),
        1 => (0..6000usize).prop_map(|bytes| Act::FailWrite { bytes }),
        1 => operation.prop_map(|operation| Act::FailOther { operation }),
        2 => crash().prop_map(Act::Crash),
        1 => (1..12u64, crash()).prop_map(|(nth, crash)| Act::CrashBefore { nth, crash }),
        1 => (1..16u64, (crash(), crash()))
            .prop_map(|(nth, crashes)| Act::CrashTwice { nth, crashes }),
        2 => Just(Act::Reopen),
        2 => (0..6u64).prop_map(|back| Act::Release { back }),
        2 => Just(Act::Seal),
        1 => Just(Act::Check),
    ]
}

/// What the log promised.
#[derive(Debug, Default)]
struct Promises {
    /// Appended and not known to be lost; by position, so that a position is never reused.
    appended: BTreeMap<Position, TestRecord>,
    /// Up to here the sink was told that all is synced.
    acknowledged: BTreeMap<Position, TestRecord>,
    released: Position,
    highest_seen: Position,
}

impl Promises {
    fn take_sink(&mut self, sink: &Sink) {
        for (at, record) in sink.synced.lock().drain(..) {
            assert_eq!(self.appended.get(&at), Some(&record));
            self.acknowledged.insert(at, record);
            self.highest_seen = self.highest_seen.max(at);
        }
        sink.failed.lock().clear();
    }

    /// Everything acknowledged and not released is there; nothing is there that was not appended.
    fn check(&self, log: &TestLog) {
        let mut read = BTreeMap::new();
        let mut covered = Position::ZERO;
        for item in read_items(log, Position::new(1)) {
            match item {
                LogItem::Record(record) => {
                    assert_eq!(record.position, covered.next(), "in order, gaps named");
                    covered = record.position;
                    read.insert(record.position, record);
                }
                LogItem::Gap(gap) => {
                    assert_eq!(gap.first, covered.next());
                    assert_ne!(gap.kind, GapKind::Damaged);
                    covered = gap.last;
                }
            }
        }
        assert!(
            covered >= log.durable_position(),
            "a reader comes to the durable position"
        );
        for (at, record) in &self.acknowledged {
            match read.get(at) {
                Some(found) => {
                    assert_eq!(found.payload.as_slice(), record.payload);
                    assert_eq!(found.context, record.context);
                }
                None => assert!(*at <= self.released, "{at} was acknowledged and is gone"),
            }
        }
        for (at, found) in &read {
            let appended = self.appended.get(at).expect("what is read was appended");
            assert_eq!(found.payload.as_slice(), appended.payload);
        }
    }

    /// Another process sees at least what is durable, and no hole in it.
    fn check_tail(&self, machine: &Machine) {
        let (records, report) = machine.tail();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        assert!(
            report
                .spans
                .windows(2)
                .all(|pair| pair[1].1 == pair[0].2.next())
        );
        let seen: Vec<_> = records.iter().map(|record| record.position).collect();
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
        for at in self.acknowledged.keys() {
            assert!(
                *at <= self.released || seen.contains(at),
                "{at} is not in the tail"
            );
        }
    }
}

fn live(acts: Vec<Act>) {
    let machine = Machine::new();
    let mut promises = Promises::default();
    let (mut log, _) = machine.open();
    let mut name = 0_u8;
    for act in acts {
        match act {
            Act::Append { size } => {
                name = name.wrapping_add(1);
                let record = TestRecord::new(name, size);
                let expected = log.next_position();
                if let Ok(at) = log.append(record.clone()) {
                    assert_eq!(at, expected);
                    assert!(at > promises.highest_seen, "WAL-3");
                    // A power cut leaves no trace of what was never synced, so such a position
                    // may come again, in another lane.
                    promises.appended.insert(at, record);
                }
            }
            Act::Step => {
                log.step();
                promises.take_sink(&machine.sink);
            }
            Act::FailSync { nth } => machine.filesystem.fail_nth(Operation::Sync, nth, Fault::Io),
            Act::FailWrite { bytes } => {
                machine
                    .filesystem
                    .fail_nth(Operation::Write, 1, Fault::Short { bytes });
            }
            Act::FailOther { operation } => {
                machine.filesystem.fail_nth(operation, 1, Fault::DiskFull);
            }
            Act::Crash(crash) => {
                let (again, recovery) = machine.crash_and_open(log, crash);
                machine.sink.failed.lock().clear();
                assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
                log = again;
                promises.check(&log);
            }
            Act::CrashBefore { nth, crash } => machine.filesystem.crash_before(nth, crash),
            Act::CrashTwice { nth, crashes } => {
                machine.filesystem.crash(crashes.0);
                drop(log);
                machine.filesystem.crash_before(nth, crashes.1);
                drop(machine.try_open());
                // Whether it has struck or not: the next process begins.
                machine.filesystem.crash(Crash::KeepUnsynced);
                machine.sink.failed.lock().clear();
                let (again, recovery) = machine.open();
                assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
                log = again;
                promises.check(&log);
            }
            Act::Reopen => {
                if log.reopen().is_ok() {
                    assert!(matches!(log.state(), LogState::Open));
                }
            }
            Act::Release { back } => {
                let up_to = Position::new(log.durable_position().get().saturating_sub(back));
                // Also a release that fails may have released some.
                promises.released = promises.released.max(up_to);
                drop(log.release(up_to));
            }
            Act::Seal => drop(log.seal(log.durable_position(), &[7; 32])),
            Act::Check => {
                if machine.filesystem.is_off() {
                    continue;
                }
                promises.check(&log);
                promises.check_tail(&machine);
            }
        }
    }
    let (log, recovery) = machine.crash_and_open(log, Crash::LoseUnsynced);
    assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
    promises.check(&log);
    promises.check_tail(&machine);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_acknowledged_records_are_read_back(
        acts in prop::collection::vec(acts(), 1..80),
    ) {
        live(acts);
    }
}

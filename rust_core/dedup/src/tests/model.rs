//! Random operations, faults and crashes against a plain map.
//!
//! The rule: an id whose record is durable and persisted is found after any crash; one whose record
//! never became durable is not; and with the records of the WAL entered again, exactly the durable
//! ids are there (DUP-1, DUP-2, DUP-3).

use std::collections::HashMap;

use penstock_disk::{Crash, Fault, FaultyFilesystem, Operation};
use proptest::prelude::*;

use super::*;
use crate::Probed;

#[derive(Clone, Debug)]
enum Step {
    /// Ids of one record; `busy`: maintenance runs between their lookup and their insert.
    Record {
        ids: Vec<u16>,
        busy: bool,
    },
    /// The newest group is synced up to this many records before the last.
    Sync {
        behind: u8,
    },
    /// The newest group fails.
    FailGroup,
    Persist {
        fault: Option<(u8, u8)>,
    },
    Maintain {
        fault: Option<(u8, u8)>,
    },
    Tick {
        minutes: u8,
    },
    Crash {
        kind: u8,
        seed: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = || proptest::option::weighted(0.4, (0_u8..6, 1_u8..5));
    let step = prop_oneof![
        8 => (proptest::collection::vec(0_u16..700, 1..40), any::<bool>())
            .prop_map(|(ids, busy)| Step::Record { ids, busy }),
        4 => (0_u8..3).prop_map(|behind| Step::Sync { behind }),
        1 => Just(Step::FailGroup),
        2 => fault().prop_map(|fault| Step::Persist { fault }),
        3 => fault().prop_map(|fault| Step::Maintain { fault }),
        1 => (0_u8..20).prop_map(|minutes| Step::Tick { minutes }),
        1 => (0_u8..3, any::<u64>()).prop_map(|(kind, seed)| Step::Crash { kind, seed }),
    ];
    proptest::collection::vec(step, 1..120)
}

struct Model {
    filesystem: FaultyFilesystem,
    dedup: Dedup,
    ids: HashMap<u16, u64>,
    last: u64,
    durable: u64,
    persisted: u64,
    now_ms: u64,
}

impl Model {
    fn new() -> Self {
        let filesystem = FaultyFilesystem::new();
        let dedup = open(&filesystem);
        let ids = HashMap::new();
        Self {
            filesystem,
            dedup,
            ids,
            last: 0,
            durable: 0,
            persisted: 0,
            now_ms: 0,
        }
    }

    fn with_fault<R>(&mut self, fault: Option<(u8, u8)>, run: impl FnOnce(&mut Self) -> R) -> R {
        if let Some((operation, nth)) = fault {
            let operation = match operation {
                0 => Operation::Create,
                1 => Operation::Write,
                2 => Operation::Sync,
                3 => Operation::Rename,
                4 => Operation::Remove,
                _ => Operation::SyncDir,
            };
            self.filesystem
                .fail_nth(operation, u64::from(nth), Fault::Io);
        }
        let result = run(self);
        self.filesystem.heal();
        result
    }

    fn insert(&mut self, ids: &[u16], position: u64, busy: bool) {
        let keys: Vec<_> = ids.iter().map(|id| Some(key(u64::from(*id)))).collect();
        let mut probed = Probed::default();
        let runs = self.dedup.runs();
        runs.probe(&keys, &mut probed).unwrap();
        if busy || self.dedup.stats().full {
            // A full one waits as the engine's budget for what is in flight does.
            self.durable = self.last;
            maintain(&mut self.dedup, self.durable).unwrap();
        }
        while !self.dedup.insert_all(&keys, &mut probed, at(position)) {
            runs.probe_again(&keys, &mut probed).unwrap();
        }
        for (id, seen) in ids.iter().zip(probed.seen()) {
            assert_eq!(*seen, self.ids.contains_key(id), "id {id}");
            self.ids.entry(*id).or_insert(position);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Record { ids, busy } => {
                let position = self.last + 1;
                self.insert(&ids, position, busy);
                self.last = position;
            }
            Step::Sync { behind } => {
                self.durable = self
                    .durable
                    .max(self.last.saturating_sub(u64::from(behind)));
            }
            Step::FailGroup => {
                self.dedup.truncate_after(at(self.durable));
                self.ids.retain(|_, position| *position <= self.durable);
                self.last = self.durable;
            }
            Step::Persist { fault } => {
                let up_to = self.durable;
                if self
                    .with_fault(fault, |model| persist(&mut model.dedup, up_to))
                    .is_ok()
                {
                    self.persisted = up_to;
                }
            }
            Step::Maintain { fault } => {
                let durable = self.durable;
                // A failed job is handed out again; nothing may be lost by it.
                drop(self.with_fault(fault, |model| maintain(&mut model.dedup, durable)));
            }
            Step::Tick { minutes } => {
                self.now_ms += u64::from(minutes) * 60_000;
                self.dedup.tick(RunningTime::from_millis(self.now_ms));
            }
            Step::Crash { kind, seed } => self.crash(match kind {
                0 => Crash::LoseUnsynced,
                1 => Crash::KeepUnsynced,
                _ => Crash::KeepSome { seed },
            }),
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.filesystem.crash(crash);
        self.dedup = open(&self.filesystem);
        assert!(
            self.dedup.stats().damaged_runs == 0,
            "a crash damages no published run"
        );
        self.now_ms = 0;
        for (id, position) in &self.ids {
            let found = self.dedup.contains(key(u64::from(*id))).unwrap();
            assert!(found || *position > self.persisted, "id {id} was persisted");
            assert!(
                !found || *position <= self.durable,
                "id {id} was never durable"
            );
        }
        self.ids.retain(|_, position| *position <= self.durable);
        self.last = self.durable;
        // The WAL holds what was not released; its ids are entered again.
        let mut replayed: Vec<_> = self
            .ids
            .iter()
            .filter(|(_, position)| **position > self.persisted)
            .collect();
        replayed.sort_unstable_by_key(|(_, position)| **position);
        for (id, position) in replayed {
            self.dedup
                .insert(key(u64::from(*id)), at(*position))
                .unwrap();
            if self.dedup.needs_maintenance() {
                self.dedup.maintain_now(at(self.durable)).unwrap();
            }
        }
    }

    fn check(&self) {
        assert_eq!(
            self.dedup.stats().ids_dropped_early,
            0,
            "budgets were ample"
        );
        for id in 0..800 {
            let expected = self.ids.contains_key(&id);
            assert_eq!(
                self.dedup.contains(key(u64::from(id))).unwrap(),
                expected,
                "id {id}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_a_plain_map_across_faults_and_crashes(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.check();
        model.crash(Crash::LoseUnsynced);
        model.check();
    }
}

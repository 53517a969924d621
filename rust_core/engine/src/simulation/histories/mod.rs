//! Single sequences, each worth a name. Where it says "at every operation", each of them meets
//! several crashes on a copy of the disk (`probe`).

mod answers;
mod clocks;
mod copies;
mod crashes;
mod lies;
mod storage;
mod tables;

use penstock_disk::{Crash, Fork};

use super::counts::Counts;
use super::machine::{Machine, options};
use super::request::Request;
use super::table::Mishap;
use crate::options::EngineOptions;

/// A machine on which a process runs.
fn machine() -> Machine {
    machine_with(options())
}

fn machine_with(options: EngineOptions) -> Machine {
    let mut machine = Machine::new(0, options);
    machine.begin();
    machine
}

/// Crashes at every operation of `act`; returns how often.
fn crash_at_every_operation(machine: &mut Machine, act: impl FnOnce(&mut Machine)) -> u64 {
    let mut counts = Counts::default();
    machine.watch();
    act(machine);
    machine.settle(0, &mut counts);
    machine.faulty.unwatch();
    assert!(counts.crash_points > 0, "something was written");
    counts.crash_points
}

/// The disks right before every operation of `act`.
fn forks_of(machine: &mut Machine, act: impl FnOnce(&mut Machine)) -> Vec<Fork> {
    machine.watch();
    act(machine);
    let forks = machine.faulty.take_forks();
    machine.faulty.unwatch();
    assert!(!forks.is_empty(), "something was written");
    forks
}

/// The machine after a crash on a copy of its disk, as its clients were before `act` was called:
/// all that wait will ask again. A process runs.
fn after(machine: &Machine, fork: &Fork, crash: Crash) -> Machine {
    let mut copy = machine.copied(fork.crashed(crash), machine.model.clone(), 0);
    copy.model.process_died_and_all_ask_again();
    copy.begin();
    copy
}

impl Machine {
    /// Sends a request and brings it to where its answer is due.
    fn stored(&mut self, request: Request) -> u64 {
        let number = self.send(request);
        self.take_in();
        self.collect_answers();
        number
    }

    /// Builds and commits all that is durable.
    fn committed(&mut self) {
        self.build();
        self.commit(Mishap::default()).unwrap();
        self.build();
        self.commit(Mishap::default()).unwrap();
        self.collect_answers();
    }
}

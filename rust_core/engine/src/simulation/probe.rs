//! A crash at one operation: the disk is copied, crashed, and opened again by a new process, while
//! the world that it was copied from goes on.

use penstock_disk::{Crash, Fork, Random};

use super::counts::Counts;
use super::machine::Machine;
use super::request::Request;

/// Operations of a process that comes up, within which the next crash strikes.
const SECOND_CRASH_WITHIN: u64 = 60;

/// Ids of events that are only sent behind a crash.
const LATE_IDS: u64 = 1 << 40;

/// An operation of a world.
pub(super) struct Moment<'a> {
    pub(super) seed: u64,
    pub(super) fork: &'a Fork,
}

/// Says, if the check panics, where it was.
pub(super) struct Place(pub(super) String);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::say(&format!("broken behind {}", self.0));
        }
    }
}

pub(super) fn some_crash(random: &mut Random) -> Crash {
    match random.below(4) {
        0 => Crash::LoseUnsynced,
        1 => Crash::KeepUnsynced,
        _ => Crash::KeepSome {
            seed: random.next(),
        },
    }
}

/// Checks several ways in which what was unsynced may have survived.
pub(super) fn all_crashes(machine: &mut Machine, moment: &Moment<'_>, counts: &mut Counts) {
    let random = &mut machine.random;
    let mut crashes = Vec::with_capacity(3);
    if moment.fork.is_unsynced() {
        crashes.push(Crash::KeepSome {
            seed: random.next(),
        });
        crashes.push(Crash::LoseUnsynced);
        if random.once_in(2) {
            crashes.push(Crash::KeepUnsynced);
        }
    } else {
        crashes.push(Crash::KeepUnsynced);
    }
    for crash in crashes {
        let seed = machine.random.next();
        counts.crash_points += one_crash(machine, moment, crash, seed);
    }
}

/// Crashes, opens again and holds everything against what clients were told before the crash; now
/// and then the process that comes up crashes too. Returns the number of crashes.
fn one_crash(machine: &Machine, moment: &Moment<'_>, crash: Crash, seed: u64) -> u64 {
    let Moment { seed: world, fork } = moment;
    let _place = Place(format!(
        "operation {} of world {world}, {crash:?}",
        fork.operation
    ));
    let mut crashes = 1;
    let model = machine.model.clone();
    let mut copy = machine.copied(fork.crashed(crash), model, seed);
    copy.model.process_died(&mut copy.random);
    if copy.random.once_in(4) {
        let second = some_crash(&mut copy.random);
        let within = 1 + copy.random.below(SECOND_CRASH_WITHIN);
        copy.faulty.crash_before(within, second);
        if let Err(error) = copy.open() {
            assert!(copy.faulty.is_off(), "no opening, without a fault: {error}");
        } else if !copy.faulty.is_off() {
            copy.send(Request::of([LATE_IDS]).with_rejected());
            come_to_the_end(&mut copy);
        }
        if copy.faulty.is_off() {
            crashes += 1;
            copy.end_life();
            copy.begin();
        } else {
            copy.faulty.heal();
        }
    } else {
        copy.begin();
    }
    copy.drain();
    copy.check_ledger();
    if copy.random.once_in(4) {
        crashes += 1;
        copy.crash(Crash::LoseUnsynced);
        copy.begin();
    }
    copy.check();
    crashes
}

/// As [`Machine::drain`], under a crash that is planned: it may strike on the way.
fn come_to_the_end(copy: &mut Machine) {
    copy.send_unanswered();
    copy.take_in();
    copy.build();
    // Whatever it says: the tables are asked again.
    drop(copy.commit(super::table::Mishap::default()));
    copy.collect_answers();
}

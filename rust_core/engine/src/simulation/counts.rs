//! What a simulation came to.

use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) worlds: u64,
    /// Worlds in which ids came to the disk, and in which files of them were merged.
    pub(super) worlds_with_runs: u64,
    pub(super) worlds_with_merged_runs: u64,
    /// Power cuts and kills, each at one operation and with one choice of what was unsynced
    /// surviving, after which the directory was opened again and everything was checked.
    pub(super) crash_points: u64,
    /// Disks with a changed bit that were opened and checked.
    pub(super) rotten_disks: u64,
    /// Operations that change or sync anything.
    pub(super) operations: u64,
    pub(super) acknowledged_events: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.worlds_with_runs += other.worlds_with_runs;
        self.worlds_with_merged_runs += other.worlds_with_merged_runs;
        self.crash_points += other.crash_points;
        self.rotten_disks += other.rotten_disks;
        self.operations += other.operations;
        self.acknowledged_events += other.acknowledged_events;
    }
}

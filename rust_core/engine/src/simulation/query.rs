//! A query of another process: it reads the log without a lock, then the tables, and what it sees
//! must be what was acknowledged when it began (`python/penstock/table/query.py`).

use std::collections::BTreeSet;
use std::path::Path;

use penstock_model::{LaneId, Position};
use penstock_segment::TableKind;

use super::machine::{DATA_DIRECTORY, Machine};
use super::model::Found;
use super::quarantine::{self, events_of};
use super::table::{Table, is_for};

/// What the log had when the query began.
pub(super) struct Query {
    records: Vec<(LaneId, Position, Found)>,
    /// Acknowledged then.
    acknowledged: BTreeSet<u64>,
}

impl Query {
    /// Reads the log. None if the file system did not let it: it would begin again.
    pub(super) fn begin(machine: &Machine) -> Option<Self> {
        let acknowledged = machine.model.acknowledged_ids();
        let mut records = Vec::new();
        let directory = Path::new(DATA_DIRECTORY).join("wal");
        let read =
            penstock_wal::read_tail(&machine.faulty, &directory, &|_, _| true, &mut |record| {
                let events = events_of(&record.context, record.payload.as_slice().to_vec());
                records.push((record.lane, record.position, events));
                Ok(())
            });
        read.ok()?;
        Some(Self {
            records,
            acknowledged,
        })
    }

    /// Reads the tables, a while later, and checks: every event that was acknowledged is there, once.
    pub(super) fn end(self, machine: &Machine) {
        let Some(life) = &machine.life else {
            return;
        };
        // Of a table that is in doubt, the newest entry is on disk all the same: another process
        // would see it. Here it is left out.
        if life.tables.iter().any(Table::in_doubt) {
            return;
        }
        let mut ids = Vec::new();
        for table in &life.tables {
            if table.kind == TableKind::Rejected {
                continue;
            }
            ids.extend(table.found().ids);
            for (lane, position, events) in &self.records {
                if !table.has_passed(*lane, *position) {
                    let its = |id: &&u64| is_for(table.kind, **id) == Some(true);
                    ids.extend(events.ids.iter().filter(its));
                }
            }
        }
        let aside = quarantine::found(&machine.faulty).ids;
        for id in &self.acknowledged {
            let times = ids.iter().filter(|other| *other == id).count();
            assert!(times > 0 || aside.contains(id), "a query misses event {id}");
            assert!(
                times <= 1 || machine.may_double(),
                "a query doubles event {id}"
            );
        }
    }
}

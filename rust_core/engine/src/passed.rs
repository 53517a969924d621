//! How far each table is.

use penstock_model::{LaneId, Position};
use penstock_segment::{ByTable, TableKind};
use penstock_wal::LaneSpan;

use crate::cut::CutLane;

/// Which positions each table has passed, by lane: the filter of a replay (TAB-1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed(ByTable<Vec<CutLane>>);

impl Passed {
    /// Notes that `table` has passed `passed`. It never goes back: a replay that is cut short tells
    /// of less than what the table had before, and rows in between must not be built again (TAB-1).
    pub(crate) fn advance(&mut self, table: TableKind, passed: CutLane) {
        let lanes = &mut self.0[table];
        match lanes.iter_mut().find(|other| other.lane == passed.lane) {
            Some(known) => known.position = known.position.max(passed.position),
            None => lanes.push(passed),
        }
    }

    /// Forgets lanes that the log no longer has.
    pub(crate) fn keep(&mut self, lanes: &[LaneSpan]) {
        for table in self.0.values_mut() {
            table.retain(|passed| lanes.iter().any(|span| span.lane == passed.lane));
        }
    }

    /// The tables that have yet to pass `position`.
    pub(crate) fn wanting(&self, lane: LaneId, position: Position) -> ByTable<bool> {
        ByTable::from_fn(|table| {
            let mut lanes = self.0[table].iter();
            !lanes.any(|passed| passed.lane == lane && position <= passed.position)
        })
    }

    /// How far the table that is least far is in a lane; `None` if one has not begun with it.
    pub(crate) fn by_all(&self, lane: LaneId) -> Option<Position> {
        let of_table = |lanes: &Vec<CutLane>| {
            let passed = lanes.iter().find(|passed| passed.lane == lane);
            passed.map(|passed| passed.position)
        };
        self.0.values().map(of_table).min().flatten()
    }
}

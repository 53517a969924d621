//! How far each table is.

use penstock_model::{LaneId, Position};
use penstock_segment::TableKind;
use penstock_wal::LaneSpan;

use crate::cut::CutLane;

/// Which positions each table has passed, by lane: the filter of a replay (TAB-1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) events: Vec<CutLane>,
    pub(crate) rejected: Vec<CutLane>,
}

impl Passed {
    pub(crate) fn table(&self, table: TableKind) -> &Vec<CutLane> {
        match table {
            TableKind::Events => &self.events,
            TableKind::Rejected => &self.rejected,
        }
    }

    pub(crate) fn table_mut(&mut self, table: TableKind) -> &mut Vec<CutLane> {
        match table {
            TableKind::Events => &mut self.events,
            TableKind::Rejected => &mut self.rejected,
        }
    }

    /// Notes that `table` has passed `passed`. It never goes back: a replay that is cut short tells
    /// of less than what the table had before, and rows in between must not be built again (TAB-1).
    pub(crate) fn advance(&mut self, table: TableKind, passed: CutLane) {
        let lanes = self.table_mut(table);
        match lanes.iter_mut().find(|other| other.lane == passed.lane) {
            Some(known) => known.position = known.position.max(passed.position),
            None => lanes.push(passed),
        }
    }

    /// Forgets lanes that the log no longer has.
    pub(crate) fn keep(&mut self, lanes: &[LaneSpan]) {
        for table in [&mut self.events, &mut self.rejected] {
            table.retain(|passed| lanes.iter().any(|span| span.lane == passed.lane));
        }
    }

    pub(crate) fn wants(&self, table: TableKind, lane: LaneId, position: Position) -> bool {
        !self
            .table(table)
            .iter()
            .any(|passed| passed.lane == lane && position <= passed.position)
    }
}

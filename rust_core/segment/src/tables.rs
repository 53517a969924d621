//! The tables that segments are written for, and one of something for each of them.

use std::ops::{Index, IndexMut};

use penstock_model::{Endpoint, Outcome};

/// A table that segments are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// Accepted events.
    Events,
    /// Refused ones, whatever they were to be.
    Rejected,
    /// Accepted snapshots of session replay.
    Recordings,
}

impl TableKind {
    /// In the order of their declaration: the place in it is `self as usize`.
    pub const ALL: [Self; 3] = [Self::Events, Self::Rejected, Self::Recordings];

    /// The table's public name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Rejected => "rejected",
            Self::Recordings => "recordings",
        }
    }

    /// The table of a public name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The table that gets the rows of what was accepted by an endpoint.
    pub fn of_accepted(endpoint: Endpoint) -> Self {
        if endpoint.takes_recordings() {
            Self::Recordings
        } else {
            Self::Events
        }
    }

    /// The table that gets the row of an event; `None` for a duplicate, whose row is there.
    pub(crate) fn of(endpoint: Endpoint, outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Accepted => Some(Self::of_accepted(endpoint)),
            Outcome::Rejected(_) => Some(Self::Rejected),
            Outcome::Duplicate => None,
        }
    }

    /// Whether its rows are partitioned by project and by the day of their `timestamp`. Else that
    /// of receipt counts, and all projects share a file.
    pub(crate) const fn is_by_event_time(self) -> bool {
        matches!(self, Self::Events | Self::Recordings)
    }
}

/// One of something for each table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTable<T>([T; TableKind::ALL.len()]);

impl ByTable<bool> {
    /// Every table.
    pub const ALL: Self = Self([true; TableKind::ALL.len()]);
}

impl<T> ByTable<T> {
    pub fn from_fn(make: impl FnMut(TableKind) -> T) -> Self {
        Self(TableKind::ALL.map(make))
    }

    /// What there is for each table, in the order of [`TableKind::ALL`].
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }

    /// As [`Self::values`], with the tables.
    pub fn iter(&self) -> impl Iterator<Item = (TableKind, &T)> {
        TableKind::ALL.into_iter().zip(self.values())
    }
}

impl<T> Index<TableKind> for ByTable<T> {
    type Output = T;

    fn index(&self, table: TableKind) -> &T {
        &self.0[table as usize]
    }
}

impl<T> IndexMut<TableKind> for ByTable<T> {
    fn index_mut(&mut self, table: TableKind) -> &mut T {
        &mut self.0[table as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_found_in_its_place_and_by_its_name() {
        let names = ByTable::from_fn(TableKind::name);
        for (place, table) in TableKind::ALL.into_iter().enumerate() {
            assert_eq!(table as usize, place);
            assert_eq!(names[table], table.name());
            assert_eq!(TableKind::named(table.name()), Some(table));
        }
        assert_eq!(TableKind::named("others"), None);
    }
}

//! Files as their readers find them, and cuts as their table commits them.

#![expect(
    clippy::unwrap_used,
    reason = "the exception for tests does not reach their helpers"
)]

mod checks;
mod columns;
mod cuts;
mod durability;
mod faults;
mod limits;
mod machine;
mod model;
mod names;
mod partitions;
mod projects;
mod samples;
mod schema;
mod support;

//! Who a visitor is for a day, without a cookie (`posthog-protocol.md` §3.5).
//!
//! What a browser says anyway (address, user agent, site) is hashed under the *salt* of the calendar
//! day in the visitor's time zone. Within a day the same visitor has the same ids; once the salt is
//! deleted nobody can tell any more which visitor they were, or that two days' ids are of one.
//!
//! [`Salts`] makes a salt when the first event of its day comes, and keeps it just as long as events
//! of that day are taken: it is the only state, since ids follow from it alone. Whose day it is says
//! the event's own timestamp, so an event that is sent late, or again, gets the ids of its day.
//!
//! The same visitor on the same day is always the same: there is no count of those who log in on one
//! device, which PostHog's service keeps.

mod day;
mod salts;
mod site;
mod visitor;

#[cfg(test)]
mod tests;

pub use day::{Day, LAG, is_open};
pub use salts::{OpenReport, SaltError, Salts};

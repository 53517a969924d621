//! The real file system against its contract, and the faulty one against the same and its own.

mod contract;
mod crash;
mod faults;
mod fork;

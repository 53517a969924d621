//! A file system in memory that forgets what was not synced, and fails on demand.

mod faults;
mod filesystem;
mod fork;
mod random;
mod state;

pub use faults::{Fault, Operation};
pub use filesystem::FaultyFilesystem;
pub use fork::Fork;
pub use random::Random;
pub use state::Crash;

//! Tests of the log as a whole, on a file system that crashes and fails on demand.

mod append;
mod damage;
mod failure;
mod files;
mod fuzz_corpus;
mod inspect;
mod model;
mod recovery;
mod seal;
mod support;
mod tail;
mod threads;

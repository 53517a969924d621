//! The engine as a whole: submit, sync, cut, commit, release, reopen.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy's leave for tests does not reach helpers of an integration test"
)]

mod client_address;
mod cookieless;
mod durability;
mod failure;
mod ledger;
mod release;
mod requests;
mod sealing;
mod support;
mod tail;

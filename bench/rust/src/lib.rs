//! What the Criterion benches and the load generator share: the corpus, event ids, gzip bodies.

mod corpus;
mod gzip;
mod ids;

pub use corpus::{Body, Corpus, TOKEN};
pub use gzip::{Compressor, Decompressor};
pub use ids::Ids;

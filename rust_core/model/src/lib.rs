//! The nouns that the rooms share: event, batch, outcome, limits, position, clock.
//!
//! No I/O and no formats live here. The only exception by design is [`clock`], the one place that
//! reads time.

mod batch;
pub mod clock;
mod code;
mod context;
mod limits;
mod payload;
mod position;
mod visitor;

pub use batch::{Batch, BatchText, BatchView, ClientIp, Event, Text, Uuid, Warning, Warnings};
pub use clock::{Clock, ManualClock, SystemClock};
pub use code::{Code, CodeScope, Outcome, Refusal};
pub use context::{AckLevel, BodyForm, Coding, Endpoint, RequestContext};
pub use limits::DecodeLimits;
pub use payload::Payload;
pub use position::{LaneId, Position};
pub use visitor::{
    COOKIELESS_DISTINCT_ID, VISITOR_DEVICE_ID_PREFIX, VISITOR_DISTINCT_ID_PREFIX, Visit, VisitorIds,
};

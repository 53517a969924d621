//! What goes in with a request and what comes back for it.

use std::net::IpAddr;

use penstock_decode::v1::Head;
use penstock_model::{Code, Coding, Endpoint, Payload, Refusal};

/// One request of a front.
#[derive(Debug)]
pub enum Submission {
    Http {
        body: Payload,
        endpoint: Endpoint,
        coding: Coding,
        sent_at_us: Option<i64>,
        client_address: Option<IpAddr>,
        /// Looked at for session replay alone.
        user_agent: Option<Vec<u8>>,
    },
    /// A request of a route of AI events, whose body may have another form than events.
    Ai {
        body: Payload,
        endpoint: Endpoint,
        coding: Coding,
        /// The `Content-Type`; empty if there is none.
        content_type: String,
        /// Token of the `Authorization` header.
        token: Option<String>,
        /// From the query; it wins over what an event says of that.
        sent_at_us: Option<i64>,
        client_address: Option<IpAddr>,
    },
    /// A request of capture v1 whose headers were read.
    V1 {
        body: Payload,
        endpoint: Endpoint,
        head: Head,
        client_address: Option<IpAddr>,
    },
    /// A serialized `AppendRequest`.
    Append {
        message: Payload,
        /// Token of the call's `authorization` metadata.
        metadata_token: Option<String>,
        client_address: Option<IpAddr>,
    },
}

/// Outcome counts of a stored request (ACK-2: they add up to its events).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitSummary {
    pub accepted: u32,
    pub duplicates: u32,
    pub rejected: u32,
    /// Zero where nothing was logged: the budget of refused-only records was used up.
    pub log_position: u64,
    /// Index and code of the first refused event.
    pub first_rejection: Option<(u32, Code)>,
    /// What the client is told, where the route has an answer of its own: of [`Submission::Ai`].
    pub answer: Option<Vec<u8>>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Every event has its outcome, and what was accepted is safe at the ack level asked for.
    Stored(SubmitSummary),
    /// A serialized `AppendResponse`, in the same circumstances.
    Appended(Vec<u8>),
    /// The answer of capture v1 as JSON: what became of each event.
    Results {
        text: Vec<u8>,
        /// Why those that are to be sent again were not stored.
        retry: Option<Code>,
    },
    /// Nothing of the request was acknowledged.
    Refused(Refusal),
}

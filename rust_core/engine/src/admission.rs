//! Who is let in: the engine's state and the budget of bytes in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use penstock_model::{Code, Refusal};

/// Whether requests are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// Opened; not yet told what the tables have passed.
    Starting,
    Ready,
    /// Shutting down: what was taken is finished, nothing new is taken.
    Draining,
    /// The storage failed and is tried again; see the reason.
    Degraded,
    /// A bug was met: what it left half done can't be reasoned about, so nothing more is taken.
    /// The process should end; the log keeps what was acknowledged.
    Failed,
}

impl EngineState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// The state with the code that says why, for health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReport {
    pub state: EngineState,
    /// Empty when ready.
    pub reason: &'static str,
}

#[derive(Debug)]
struct Gate {
    started: bool,
    draining: bool,
    /// Set while the log refuses appends.
    degraded: Option<Code>,
    /// A thread panicked: nothing is taken until a restart.
    failed: bool,
}

impl Gate {
    fn closed(&self) -> Option<Code> {
        if self.draining {
            Some(Code::ShuttingDown)
        } else if !self.started {
            Some(Code::Starting)
        } else if self.failed {
            Some(Code::StorageFailed)
        } else {
            self.degraded
        }
    }
}

#[derive(Debug)]
pub(crate) struct Admission {
    gate: Mutex<Gate>,
    max_in_flight_bytes: u64,
    in_flight_bytes: AtomicU64,
    in_flight_requests: AtomicUsize,
}

impl Admission {
    pub(crate) fn new(max_in_flight_bytes: u64) -> Self {
        Self {
            gate: Mutex::new(Gate {
                started: false,
                draining: false,
                degraded: None,
                failed: false,
            }),
            max_in_flight_bytes,
            in_flight_bytes: AtomicU64::new(0),
            in_flight_requests: AtomicUsize::new(0),
        }
    }

    pub(crate) fn start(&self) {
        self.gate.lock().started = true;
    }

    pub(crate) fn drain(&self) {
        self.gate.lock().draining = true;
    }

    /// Says why appends are refused; `None` lets them in again.
    pub(crate) fn set_degraded(&self, reason: Option<Code>) {
        self.gate.lock().degraded = reason;
    }

    /// Closes the door for good: a bug was met.
    pub(crate) fn fail(&self) {
        self.gate.lock().failed = true;
    }

    /// Why the log refuses appends, if it does.
    pub(crate) fn degraded(&self) -> Option<Code> {
        self.gate.lock().degraded
    }

    pub(crate) fn report(&self) -> StateReport {
        let (closed, failed) = {
            let gate = self.gate.lock();
            (gate.closed(), gate.failed)
        };
        let state = match closed {
            _ if failed => EngineState::Failed,
            None => EngineState::Ready,
            Some(Code::ShuttingDown) => EngineState::Draining,
            Some(Code::Starting) => EngineState::Starting,
            Some(_) => EngineState::Degraded,
        };
        let reason = closed.map_or("", Code::as_str);
        StateReport { state, reason }
    }

    /// Takes a request in that is expected to hold `bytes` until it is synced, or refuses it.
    /// LIM-1. Its end is told by [`Self::leave`].
    ///
    /// A single request larger than the whole budget is let in when nothing else is in flight, so
    /// that a budget below the body limit slows down rather than locks out.
    pub(crate) fn admit(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Refusal> {
        if let Some(code) = self.gate.lock().closed() {
            return Err(Refusal::new(code, ""));
        }
        let mut reservation = Reservation {
            admission: Arc::clone(self),
            bytes: 0,
        };
        reservation.correct(bytes.saturating_add(REQUEST_BYTES))?;
        self.in_flight_requests.fetch_add(1, Ordering::Relaxed);
        Ok(reservation)
    }

    /// Counts requests out, once their answers are with the caller.
    pub(crate) fn leave(&self, requests: usize) {
        self.in_flight_requests
            .fetch_sub(requests, Ordering::Relaxed);
    }

    pub(crate) fn in_flight_requests(&self) -> usize {
        self.in_flight_requests.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes.load(Ordering::Relaxed)
    }
}

/// What a request costs besides its body: context, queue entries, ticket. It bounds the number of
/// empty requests in flight.
const REQUEST_BYTES: u64 = 512;

/// A share of the budget of bytes in flight, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Reservation {
    /// Sets the share to `bytes`: what a body claims about itself is only known to be true once it
    /// is decoded. Errors: [`Code::Overloaded`] if the budget has no room; the share stays.
    pub(crate) fn correct(&mut self, bytes: u64) -> Result<(), Refusal> {
        let in_flight = &self.admission.in_flight_bytes;
        if let Some(more) = bytes.checked_sub(self.bytes) {
            let before = in_flight.fetch_add(more, Ordering::Relaxed);
            let others = before.saturating_sub(self.bytes);
            if others > 0 && before.saturating_add(more) > self.admission.max_in_flight_bytes {
                in_flight.fetch_sub(more, Ordering::Relaxed);
                return Err(Refusal::new(Code::Overloaded, ""));
            }
        } else {
            in_flight.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let in_flight = &self.admission.in_flight_bytes;
        in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_bytes: u64) -> Arc<Admission> {
        Arc::new(Admission::new(max_bytes))
    }

    #[test]
    fn the_budget_is_kept_and_given_back() {
        let admission = admission(100 + 2 * REQUEST_BYTES);
        assert_eq!(admission.admit(1).unwrap_err().code, Code::Starting);
        admission.start();
        let first = admission.admit(60).unwrap();
        let _second = admission.admit(40).unwrap();
        assert_eq!(admission.admit(1).unwrap_err().code, Code::Overloaded);
        drop(first);
        admission.admit(60).unwrap();
    }

    #[test]
    fn empty_requests_are_bounded_too() {
        let admission = admission(3 * REQUEST_BYTES);
        admission.start();
        let _taken: Vec<_> = (0..3).map(|_| admission.admit(0).unwrap()).collect();
        assert_eq!(admission.admit(0).unwrap_err().code, Code::Overloaded);
    }

    #[test]
    fn one_request_above_the_budget_is_taken_alone() {
        let admission = admission(100);
        admission.start();
        let _large = admission.admit(500).unwrap();
        assert_eq!(admission.admit(1).unwrap_err().code, Code::Overloaded);
    }

    #[test]
    fn a_body_that_turns_out_larger_than_it_claimed_has_to_find_room() {
        let admission = admission(4 * REQUEST_BYTES);
        admission.start();
        let mut liar = admission.admit(1).unwrap();
        let other = admission.admit(1).unwrap();
        assert_eq!(
            liar.correct(5 * REQUEST_BYTES).unwrap_err().code,
            Code::Overloaded
        );
        drop(other);
        liar.correct(5 * REQUEST_BYTES).unwrap();
        liar.correct(10).unwrap();
        assert_eq!(admission.in_flight_bytes(), 10);
        drop(liar);
        assert_eq!(admission.in_flight_bytes(), 0);
    }

    #[test]
    fn draining_outranks_every_other_state() {
        let admission = admission(100);
        admission.start();
        admission.set_degraded(Some(Code::DiskFull));
        assert_eq!(admission.report().state, EngineState::Degraded);
        admission.drain();
        assert_eq!(admission.admit(1).unwrap_err().code, Code::ShuttingDown);
        assert_eq!(admission.report().state, EngineState::Draining);
    }

    #[test]
    fn a_failed_engine_says_so_whatever_else_it_does() {
        let admission = admission(100);
        admission.start();
        admission.fail();
        assert_eq!(admission.report().state, EngineState::Failed);
        assert_eq!(admission.admit(1).unwrap_err().code, Code::StorageFailed);
        admission.drain();
        assert_eq!(admission.report().state, EngineState::Failed);
    }
}

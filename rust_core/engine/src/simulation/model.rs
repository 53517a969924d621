//! What clients sent and were told: the truth that the tables are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_disk::Random;

use super::request::{Level, Request, SNAPSHOT, VISITOR};
use crate::answer::{Completion, Submission};

/// Ids are taken from a small pool now and then, so that copies meet in flight; now and then from
/// all that there are, so that copies come long after.
const RECENT_IDS: u64 = 8;

/// Longest filler of an event: several records then fill a file of the log.
const MAX_FILLER_BYTES: u64 = 1_500;

/// An event that was ever sent.
#[derive(Clone, Copy, Debug)]
struct Id {
    /// At `disk` or `table`: only these are promised anything.
    acknowledged: bool,
    first_sent_ms: u64,
    /// When it was sent, or waited in a process to be looked at.
    last_open_ms: u64,
}

/// What ids and refused events (by their request) were found, in tables and quarantine.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) ids: Vec<u64>,
    pub(super) rejected: Vec<u64>,
}

impl Found {
    pub(super) fn extend(&mut self, other: &Self) {
        self.ids.extend_from_slice(&other.ids);
        self.rejected.extend_from_slice(&other.rejected);
    }
}

/// What must not be held against the tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    /// Ids that come again after this much running time may be stored once more.
    pub(super) window_ms: u64,
    /// Ids of the window were lost, and it was told.
    pub(super) doubled: bool,
    /// Lost with a part of the log, and it was told; or, where a table had them, no longer known.
    pub(super) missing_ids: BTreeSet<u64>,
    pub(super) missing_rejected: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    requests: Vec<Arc<Request>>,
    /// By request: answered at `disk` or `table`.
    acknowledged: Vec<bool>,
    /// Requests that are neither answered nor given up.
    open: BTreeSet<u64>,
    /// Requests whose client will send again.
    to_send_again: Vec<u64>,
    ids: BTreeMap<u64, Id>,
    next_id: u64,
}

impl Model {
    /// A new request, or one that was not answered, sent again. The number is its ticket.
    pub(super) fn next_request(&mut self, random: &mut Random, now_ms: u64) -> (u64, Submission) {
        if !self.to_send_again.is_empty() && !random.once_in(3) {
            return self.resend(random, now_ms);
        }
        let is_recording = random.once_in(4);
        let kind = match random.below(6) {
            _ if is_recording => SNAPSHOT,
            0 => VISITOR,
            _ => 0,
        };
        let ids = (0..random.below(4))
            .map(|_| kind | self.some_id(random))
            .collect();
        let request = Request::some(ids, is_recording, MAX_FILLER_BYTES, random);
        self.send(request, now_ms)
    }

    /// A request that was not answered, if there is one left.
    pub(super) fn next_unanswered(
        &mut self,
        random: &mut Random,
        now_ms: u64,
    ) -> Option<(u64, Submission)> {
        (!self.to_send_again.is_empty()).then(|| self.resend(random, now_ms))
    }

    fn resend(&mut self, random: &mut Random, now_ms: u64) -> (u64, Submission) {
        let index = random.below(self.to_send_again.len() as u64);
        let index = usize::try_from(index).unwrap();
        let number = self.to_send_again.swap_remove(index);
        let again = Request {
            // It was the time that could not be stored.
            unstorable: false,
            ..(*self.requests[index_of(number)]).clone()
        };
        self.send(again, now_ms)
    }

    /// Ids that were never sent.
    pub(super) const fn new_ids(&mut self, count: u64) -> std::ops::Range<u64> {
        self.next_id += count;
        self.next_id - count..self.next_id
    }

    fn some_id(&mut self, random: &mut Random) -> u64 {
        if self.next_id > 0 && random.once_in(5) {
            let among = match random.below(4) {
                0 => self.next_id,
                _ => RECENT_IDS.min(self.next_id),
            };
            return self.next_id - 1 - random.below(among);
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn send(&mut self, request: Request, now_ms: u64) -> (u64, Submission) {
        let number = self.requests.len() as u64;
        for id in &request.ids {
            let id = self.ids.entry(*id).or_insert(Id {
                acknowledged: false,
                first_sent_ms: now_ms,
                last_open_ms: now_ms,
            });
            id.last_open_ms = now_ms;
        }
        let submission = request.submission(number);
        self.requests.push(Arc::new(request));
        self.acknowledged.push(false);
        self.open.insert(number);
        (number, submission)
    }

    /// A process looks at one of those that it has: whether its ids are known is asked now, however
    /// long ago it was sent.
    pub(super) fn looked_at(&mut self, now_ms: u64) {
        for number in &self.open {
            for id in &self.requests[index_of(*number)].ids {
                if let Some(id) = self.ids.get_mut(id) {
                    id.last_open_ms = now_ms;
                }
            }
        }
    }

    pub(super) fn request(&self, number: u64) -> &Arc<Request> {
        &self.requests[index_of(number)]
    }

    /// Takes an answer; true if it was a success.
    pub(super) fn answered(&mut self, number: u64, completion: &Completion) -> bool {
        assert!(self.open.remove(&number), "one answer a request (ACK-2)");
        let request = &self.requests[index_of(number)];
        match completion {
            Completion::Refused(_) => {
                self.to_send_again.push(number);
                return false;
            }
            Completion::Stored(summary) => {
                let told = summary.accepted + summary.duplicates + summary.rejected;
                assert_eq!(
                    told as usize,
                    request.events(),
                    "one outcome an event (ACK-2)"
                );
                assert_eq!(summary.rejected == 1, request.has_rejected);
            }
            Completion::Appended(_) | Completion::Results { .. } => {}
        }
        if request.level != Level::Memory {
            self.acknowledged[index_of(number)] = true;
            for id in &request.ids {
                if let Some(id) = self.ids.get_mut(id) {
                    id.acknowledged = true;
                }
            }
        }
        true
    }

    /// Whether a request was answered at `disk` or `table`.
    pub(super) fn is_acknowledged(&self, number: u64) -> bool {
        self.acknowledged[index_of(number)]
    }

    /// The process is gone: whoever waits will send again, or not at all.
    pub(super) fn process_died(&mut self, random: &mut Random) {
        for number in std::mem::take(&mut self.open) {
            if !random.once_in(4) {
                self.to_send_again.push(number);
            }
        }
    }

    /// The process is gone, and every client that waits will send again.
    pub(super) fn process_died_and_all_ask_again(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.to_send_again.extend(open);
    }

    pub(super) fn nothing_open(&self) -> bool {
        self.open.is_empty() && self.to_send_again.is_empty()
    }

    pub(super) fn acknowledged_ids(&self) -> BTreeSet<u64> {
        let acknowledged = self.ids.iter().filter(|(_, id)| id.acknowledged);
        acknowledged.map(|(number, _)| *number).collect()
    }

    /// Holds what is stored against what was told.
    pub(super) fn check(&self, found: &Found, allowed: &Allowed) {
        let stored = count(&found.ids);
        assert!(
            stored.keys().all(|id| self.ids.contains_key(id)),
            "rows that nobody sent"
        );
        for (number, id) in &self.ids {
            let times = stored.get(number).copied().unwrap_or(0);
            let out_of_window = id.last_open_ms - id.first_sent_ms >= allowed.window_ms;
            assert!(
                times <= 1
                    || allowed.doubled
                    || out_of_window
                    || allowed.missing_ids.contains(number),
                "event {number} is there {times} times, first sent at {} ms and last open at {}, \
                 of a window of {} ms (DUP-1)",
                id.first_sent_ms,
                id.last_open_ms,
                allowed.window_ms,
            );
            assert!(
                times >= 1 || !id.acknowledged || allowed.missing_ids.contains(number),
                "event {number} was acknowledged and is not there (TAB-1)"
            );
        }
        let stored = count(&found.rejected);
        for (number, request) in (0..).zip(&self.requests) {
            let times = stored.get(&number).copied().unwrap_or(0);
            let wanted = usize::from(request.has_rejected);
            let all_there =
                !self.acknowledged[index_of(number)] || allowed.missing_rejected.contains(&number);
            assert!(
                times <= wanted && (all_there || times == wanted),
                "the refused event of request {number} is there {times} times (TAB-1)"
            );
        }
    }
}

fn index_of(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn count(numbers: &[u64]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for number in numbers {
        *counts.entry(*number).or_default() += 1;
    }
    counts
}

//! Finished requests on their way back to the caller's loop.
//!
//! Core threads push, the loop takes all at once. The loop is woken through an eventfd, written
//! only when the queue was empty: one wake-up a commit group, and no core thread ever needs the
//! caller's locks.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;

use crate::answer::Completion;

#[derive(Debug)]
pub(crate) struct Finished<T> {
    pub(crate) ticket: T,
    pub(crate) completion: Completion,
}

#[derive(Debug)]
pub(crate) struct CompletionQueue<T> {
    finished: Mutex<Vec<Finished<T>>>,
    eventfd: OwnedFd,
}

impl<T> CompletionQueue<T> {
    pub(crate) fn new() -> std::io::Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let eventfd = rustix::event::eventfd(0, flags)?;
        // Bounded by admission: nothing is in here that was not admitted (LIM-1).
        Ok(Self {
            finished: Mutex::new(Vec::new()),
            eventfd,
        })
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    pub(crate) fn push(&self, item: Finished<T>) {
        let was_empty = {
            let mut finished = self.finished.lock();
            let was_empty = finished.is_empty();
            finished.push(item);
            was_empty
        };
        if was_empty {
            self.wake();
        }
    }

    pub(crate) fn push_all(&self, items: &mut Vec<Finished<T>>) {
        if items.is_empty() {
            return;
        }
        let was_empty = {
            let mut finished = self.finished.lock();
            let was_empty = finished.is_empty();
            finished.append(items);
            was_empty
        };
        if was_empty {
            self.wake();
        }
    }

    /// Finished requests that nobody has taken yet.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.finished.lock().len()
    }

    fn wake(&self) {
        // EAGAIN means that the counter is at its maximum: the reader is awake already.
        rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()).ok();
    }

    /// Takes everything. Call it when the eventfd is readable.
    pub(crate) fn take(&self) -> Vec<Finished<T>> {
        let mut counter = [0; 8];
        // The counter is cleared before the queue is taken: what is pushed in between wakes again.
        rustix::io::read(&self.eventfd, &mut counter).ok();
        std::mem::take(&mut *self.finished.lock())
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::{Code, Refusal};

    use super::*;

    fn refused(ticket: u32) -> Finished<u32> {
        let completion = Completion::Refused(Refusal::new(Code::Overloaded, ""));
        Finished { ticket, completion }
    }

    #[test]
    fn one_wake_up_serves_everything_that_was_pushed() {
        let queue = CompletionQueue::new().unwrap();
        queue.push(refused(1));
        queue.push(refused(2));
        queue.push_all(&mut vec![refused(3)]);
        let tickets: Vec<u32> = queue.take().into_iter().map(|item| item.ticket).collect();
        assert_eq!(tickets, [1, 2, 3]);
        assert!(
            rustix::io::read(&queue.eventfd, &mut [0; 8]).is_err(),
            "woken twice"
        );
        assert!(queue.take().is_empty());
    }
}

//! The foreground: from admitted bytes to an append, on worker threads.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use penstock_decode::{
    DECODER_VERSION, Workspace, body_form, check_token, decode_with_answer,
    decode_without_client_address, expected_decoded_bytes, has_cookieless, library_of,
    names_client_address, protobuf, v1,
};
use penstock_dedup::{DedupError, DedupKey, KeyHasher, Probed, Runs};
use penstock_model::{
    AckLevel, Batch, BatchText, BodyForm, Code, Coding, Endpoint, Outcome, Payload, Refusal,
    RequestContext,
};
use penstock_wal::{AppendError, Log, PayloadChecksum};

use crate::admission::Reservation;
use crate::answer::{Completion, Submission};
use crate::completion::Finished;
use crate::decided::{DecidedForm, make_answer, make_form};
use crate::dedup_keys::append_dedup_keys;
use crate::journal::LogLevel;
use crate::projects::Project;
use crate::record;
use crate::shared::{Answer, PendingRecord, Shared, error_code};

/// An admitted request that waits for a worker.
struct Job<T> {
    ticket: T,
    payload: Payload,
    request: RequestContext,
    /// None leaves the level to the project or the server.
    ack: Option<AckLevel>,
    form: DecidedForm,
    expected_bytes: u64,
    reservation: Reservation,
}

/// Bytes of the log that records with nothing but refused events may take between two cuts. A
/// client that sends only rubbish can't fill the disk with it; past this they are only counted.
const MAX_REFUSED_ONLY_BYTES: u64 = 64 << 20;

/// What a record's context takes for each event that was not accepted, and besides.
const EXCEPTION_BYTES: u64 = 5;
const CONTEXT_BYTES: u64 = 128;

/// Bodies that are expected to be larger than this once decompressed are decoded one at a time,
/// so that the number of workers doesn't multiply the memory of the largest body (LIM-2).
const LARGE_BODY_BYTES: u64 = 20 << 20;

/// What looks ids up without the sequencer's lock.
pub(crate) struct DedupLookup {
    pub(crate) hasher: KeyHasher,
    pub(crate) runs: Runs,
}

/// The ids of a request, in buffers that a worker uses again.
#[derive(Default)]
pub(crate) struct Ids {
    /// One an event; `None` where there is nothing to look up.
    keys: Vec<Option<DedupKey>>,
    probed: Probed,
}

struct Queue<T> {
    jobs: VecDeque<Job<T>>,
    closing: bool,
}

pub(crate) struct Foreground<T: Send + 'static> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) log: Arc<Log<PendingRecord<T>>>,
    dedup: Option<DedupLookup>,
    /// Held while a large body is decoded.
    large_body: Mutex<()>,
    queue: Mutex<Queue<T>>,
    available: Condvar,
    /// Random start of the sequence from which each request's id seed is made.
    seed: [u64; 2],
    requests: AtomicU64,
    /// Reset at each cut.
    pub(crate) refused_only_bytes: AtomicU64,
}

impl<T: Send + 'static> Foreground<T> {
    pub(crate) fn new(
        shared: Arc<Shared<T>>,
        log: Arc<Log<PendingRecord<T>>>,
        dedup: Option<DedupLookup>,
        seed: [u64; 2],
    ) -> Self {
        Self {
            shared,
            log,
            dedup,
            large_body: Mutex::new(()),
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                closing: false,
            }),
            available: Condvar::new(),
            seed,
            requests: AtomicU64::new(0),
            refused_only_bytes: AtomicU64::new(0),
        }
    }

    /// Admits a request and queues it to a worker. Never waits.
    ///
    /// A gRPC message's own fields are read here: admission counts by the coding that they name.
    pub(crate) fn submit(&self, ticket: T, submission: Submission) -> Result<(), (T, Refusal)> {
        match self.admit(submission) {
            Ok(admitted) => {
                let job = Job {
                    ticket,
                    payload: admitted.payload,
                    request: admitted.request,
                    ack: admitted.ack,
                    form: admitted.form,
                    expected_bytes: admitted.expected_bytes,
                    reservation: admitted.reservation,
                };
                // Bounded by admission (LIM-1).
                self.queue.lock().jobs.push_back(job);
                self.available.notify_one();
                Ok(())
            }
            Err(refusal) => {
                self.shared.metrics.requests_refused(refusal.code);
                Err((ticket, refusal))
            }
        }
    }

    fn admit(&self, submission: Submission) -> Result<Admitted, Refusal> {
        let options = &self.shared.options;
        let mut request = RequestContext {
            decoder_version: DECODER_VERSION,
            limits: options.limits,
            endpoint: Endpoint::GrpcAppend,
            coding: Coding::Unspecified,
            form: BodyForm::Events,
            received_at_us: self.shared.clock.unix_micros(),
            client_address: None,
            sent_at_us: None,
            token: None,
            sdk_info: None,
            cookieless: false,
            uuid_seed: self.next_seed(),
        };
        let (payload, ack, form) = match submission {
            Submission::Http {
                body,
                endpoint,
                coding,
                sent_at_us,
                client_address,
                user_agent,
            } => {
                request.endpoint = endpoint;
                if endpoint.takes_recordings() {
                    request.sdk_info = user_agent.as_deref().and_then(library_of);
                }
                request.limits = options.limits_of(endpoint);
                request.coding = coding;
                request.sent_at_us = sent_at_us;
                request.client_address = client_address;
                (body, None, DecidedForm::Http)
            }
            Submission::Ai {
                body,
                endpoint,
                coding,
                content_type,
                token,
                sent_at_us,
                client_address,
            } => {
                // In the protocol's order (`posthog-protocol.md` §3.10).
                if body.is_empty() {
                    return Err(Refusal::new(Code::MissingPayload, "the body is empty"));
                }
                request.endpoint = endpoint;
                request.coding = coding;
                request.form = body_form(endpoint, &content_type)?;
                request.token = one_token(token, None)?;
                request.sent_at_us = sent_at_us;
                request.client_address = client_address;
                (body, None, DecidedForm::Http)
            }
            Submission::V1 {
                body,
                endpoint,
                head,
                client_address,
            } => {
                request.endpoint = endpoint;
                request.coding = head.coding;
                request.sent_at_us = Some(head.sent_at_us);
                request.token = Some(head.token);
                request.sdk_info = head.sdk_info;
                request.client_address = client_address;
                (body, None, DecidedForm::V1)
            }
            Submission::Append {
                message,
                metadata_token,
                client_address,
            } => {
                let append = protobuf::decode_append_request(message.as_slice())?;
                request.token = one_token(append.token, metadata_token)?;
                let ack = append.ack.unwrap_or(options.ack);
                if append.ack.is_some() && !options.allowed_ack.contains(&ack) {
                    return Err(Refusal::new(Code::AckNotAllowed, ""));
                }
                request.coding = append.coding;
                request.sent_at_us = append.sent_at_us;
                request.client_address = client_address;
                (message.slice(append.body), Some(ack), DecidedForm::Append)
            }
        };
        let payload_bytes = payload.len() as u64;
        let expected_bytes = expected_decoded_bytes(
            payload.as_slice(),
            request.coding,
            &request.form,
            &request.limits,
        ) as u64;
        // A plain body is its own text, if it is events.
        let held_bytes = match expected_bytes {
            expected if expected == payload_bytes && request.form == BodyForm::Events => {
                payload_bytes
            }
            expected => payload_bytes + expected,
        };
        let reservation = self.shared.admission.admit(held_bytes)?;
        Ok(Admitted {
            payload,
            request,
            ack,
            form,
            expected_bytes,
            reservation,
        })
    }

    /// Lets the workers finish what is queued and return.
    pub(crate) fn close(&self) {
        self.queue.lock().closing = true;
        self.available.notify_all();
    }

    /// Answers what no worker will take any more.
    pub(crate) fn refuse_queued(&self, code: Code) {
        let jobs = {
            let mut queue = self.queue.lock();
            queue.closing = true;
            std::mem::take(&mut queue.jobs)
        };
        for job in jobs {
            self.shared.completions.push(Finished {
                ticket: job.ticket,
                completion: Completion::Refused(Refusal::new(code, "")),
            });
        }
    }

    /// A worker thread's life.
    pub(crate) fn work(&self) {
        let mut workspace = Workspace::default();
        let mut ids = Ids::default();
        loop {
            let job = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    if queue.closing {
                        return;
                    }
                    self.available.wait(&mut queue);
                }
            };
            self.process(job, &mut workspace, &mut ids);
        }
    }

    /// One turn of a worker: false if nothing is queued.
    #[cfg(test)]
    pub(crate) fn work_once(&self, workspace: &mut Workspace, ids: &mut Ids) -> bool {
        let Some(job) = self.queue.lock().jobs.pop_front() else {
            return false;
        };
        self.process(job, workspace, ids);
        true
    }

    fn process(&self, job: Job<T>, workspace: &mut Workspace, ids: &mut Ids) {
        let Job {
            ticket,
            mut payload,
            mut request,
            ack,
            form,
            expected_bytes,
            mut reservation,
        } = job;
        let came_as = request.form.clone();
        let came_bytes = payload.len() as u64;
        let decided = {
            let _alone = (expected_bytes > LARGE_BODY_BYTES).then(|| self.large_body.lock());
            self.decide(&mut payload, &mut request, &mut reservation, workspace)
        };
        match decided {
            Ok((batch, answer, project)) => {
                self.shared
                    .metrics
                    .request_decoded(request.endpoint, came_bytes);
                let ack = ack.unwrap_or(project.ack.unwrap_or(self.shared.options.ack));
                let decided = Decided {
                    payload,
                    request,
                    came_as,
                    batch,
                    answer,
                    project,
                    ack,
                    form,
                    reservation,
                    believe_window: true,
                };
                self.append(ticket, decided, ids);
            }
            Err(refusal) => {
                self.shared.metrics.requests_refused(refusal.code);
                self.shared.completions.push(Finished {
                    ticket,
                    completion: Completion::Refused(refusal),
                });
            }
        }
    }

    /// Decodes a request and finds its project. Where that stores no addresses of clients, or events
    /// are of cookieless mode, the payload and its context become such as the log may hold.
    fn decide(
        &self,
        payload: &mut Payload,
        request: &mut RequestContext,
        reservation: &mut Reservation,
        workspace: &mut Workspace,
    ) -> Result<(Batch, Option<String>, Project), Refusal> {
        let endpoint = request.endpoint;
        let (mut batch, mut answer) = self.guard(endpoint, workspace, |workspace| {
            decode_with_answer(payload, request, workspace)
        })?;
        // What a body claims about its size is only known to be true now (LIM-2).
        reservation.correct(held_bytes(&batch, payload, endpoint))?;
        let project = self.shared.projects.resolve(batch.token())?;
        if has_cookieless(&batch) {
            (*payload, batch, answer) = self.guard(endpoint, workspace, |workspace| {
                let name = &project.name;
                self.identify_visitors(payload, request, batch, answer, name, workspace)
            })?;
            reservation.correct(held_bytes(&batch, payload, endpoint))?;
        }
        if project
            .discard_client_ip
            .unwrap_or(self.shared.options.discard_client_ip)
        {
            request.client_address = None;
            if names_client_address(&batch) {
                (*payload, batch, answer) = self.guard(endpoint, workspace, |workspace| {
                    decode_without_client_address(payload, request, batch, answer, workspace)
                })?;
                reservation.correct(held_bytes(&batch, payload, endpoint))?;
            }
        }
        Ok((batch, answer, project))
    }

    /// Decoding is a pure function, so when it panics nothing outside of the workspace is half
    /// done: one tenant's input must not stop the others (SEC-1).
    fn guard<R>(
        &self,
        endpoint: Endpoint,
        workspace: &mut Workspace,
        decode: impl FnOnce(&mut Workspace) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| decode(workspace)));
        decoded.unwrap_or_else(|_| {
            *workspace = Workspace::default();
            self.shared.journal.add(
                LogLevel::Error,
                "decode_panicked",
                vec![("endpoint", endpoint.name().to_owned())],
            );
            Err(Refusal::new(Code::InternalError, ""))
        })
    }

    pub(crate) fn append(&self, ticket: T, decided: Decided, ids: &mut Ids) {
        let Decided {
            payload,
            request,
            came_as,
            mut batch,
            answer: told,
            project,
            ack,
            form,
            reservation,
            believe_window,
        } = decided;
        let form = make_form(form, &batch);
        if batch.events.is_empty() {
            // An export of spans may hold none that becomes an event: nothing is to be stored.
            let answer = make_answer(ticket, ack, form, &batch).telling(&came_as, told);
            let finished = answer.stored(penstock_model::Position::ZERO);
            self.shared.completions.push(finished);
            return;
        }
        self.collect_keys(&batch, &mut ids.keys);
        let stored_bytes =
            payload.len() as u64 + CONTEXT_BYTES + EXCEPTION_BYTES * batch.events.len() as u64;
        if batch
            .events
            .iter()
            .all(|event| matches!(event.outcome, Outcome::Rejected(_)))
            && self
                .refused_only_bytes
                .fetch_add(stored_bytes, Ordering::Relaxed)
                > MAX_REFUSED_ONLY_BYTES
        {
            let answer = make_answer(ticket, ack, form, &batch).telling(&came_as, told);
            let refused = self.shared.metrics.outcomes(&batch);
            self.shared.metrics.refused_only_dropped.add(1);
            self.shared.metrics.refused_unstored.add(refused.rejected);
            self.shared
                .completions
                .push(answer.stored(penstock_model::Position::ZERO));
            return;
        }
        // A typical context is 90 bytes; exceptions are rare.
        let mut context = Vec::with_capacity(128);
        let payload_checksum = PayloadChecksum::of(payload.as_slice());
        // The disk is asked before the lock is taken: under it there is no I/O.
        let mut looked_up = self.look_up(ids, Runs::probe);
        let (mut sequencer, position) = loop {
            if looked_up.is_err() {
                // Whether an event is new can't be said, so none is taken (DUP-1). The tidier asks the
                // disk again, and reports what that says.
                let answer = make_answer(ticket, ack, form, &batch).telling(&came_as, told);
                self.not_persisted(Some(answer), &batch, Code::StorageFailed);
                return;
            }
            let mut sequencer = self.shared.sequencer.lock();
            let position = self.log.next_position();
            if sequencer.mark_duplicates(&mut batch, &ids.keys, &mut ids.probed, position) {
                break (sequencer, position);
            }
            // Ids went from memory to disk in between, which happens once in some 100,000 events.
            drop(sequencer);
            looked_up = self.look_up(ids, Runs::probe_again);
        };
        if !believe_window {
            // Only what was accepted until then had a key.
            for (event, _) in batch
                .events
                .iter_mut()
                .zip(&ids.keys)
                .filter(|(_, key)| key.is_some())
            {
                event.outcome = Outcome::Accepted;
            }
        }
        record::encode(&request, &project.name, &batch, &mut context);
        let counts = self.shared.metrics.outcomes(&batch);
        let answer = make_answer(ticket, ack, form, &batch).telling(&came_as, told);
        let mut answer = Some(answer);
        let early = if ack == AckLevel::Memory {
            answer.take()
        } else {
            None
        };
        let pending = PendingRecord {
            context,
            payload,
            payload_checksum,
            batch,
            request,
            project: project.name,
            counts,
            answer,
            _reservation: reservation,
        };
        let failed = match self.log.append(pending) {
            Ok(appended) => {
                assert_eq!(appended, position, "only the sequencer appends");
                None
            }
            Err((pending, error)) => {
                sequencer.forget_after(position.previous());
                Some((pending, error))
            }
        };
        drop(sequencer);
        if let Some((pending, error)) = failed {
            let answer = pending.answer.or(early);
            self.not_persisted(answer, &pending.batch, append_error_code(&error));
        } else if let Some(answer) = early {
            self.shared.completions.push(answer.stored(position));
        }
    }

    /// Counts and answers a decoded request of which nothing came to the log.
    fn not_persisted(&self, answer: Option<Answer<T>>, batch: &Batch, code: Code) {
        self.shared.metrics.requests_refused(code);
        if let Some(answer) = answer {
            self.shared
                .completions
                .push(answer.not_persisted(batch, code));
        }
    }

    /// Looks ids up on disk; see [`Runs::probe`].
    fn look_up(
        &self,
        ids: &mut Ids,
        probe: impl Fn(&Runs, &[Option<DedupKey>], &mut Probed) -> Result<(), DedupError>,
    ) -> Result<(), DedupError> {
        self.dedup.as_ref().map_or(Ok(()), |lookup| {
            probe(&lookup.runs, &ids.keys, &mut ids.probed)
        })
    }

    /// Hashes the ids that deduplication looks at, outside of the sequencer's lock.
    fn collect_keys(&self, batch: &Batch, keys: &mut Vec<Option<DedupKey>>) {
        keys.clear();
        if let Some(DedupLookup { hasher, .. }) = &self.dedup {
            append_dedup_keys(batch, hasher, keys);
        }
    }

    /// 128 bits that no other request of this engine has, from a random start.
    fn next_seed(&self) -> [u8; 16] {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&mix(self.seed[0].wrapping_add(count)).to_le_bytes());
        seed[8..].copy_from_slice(&mix(self.seed[1] ^ count.rotate_left(32)).to_le_bytes());
        seed
    }
}

/// What a decoded request keeps in memory until it is answered, at most.
fn held_bytes(batch: &Batch, payload: &Payload, endpoint: Endpoint) -> u64 {
    let compressed_bytes = match &batch.text {
        BatchText::Received(_) => 0,
        BatchText::Decoded(_) => payload.len(),
    };
    let answer_bytes = if endpoint.is_v1() {
        v1::RESULT_BYTES * batch.events.len()
    } else {
        0
    };
    (batch.held_bytes() + compressed_bytes + answer_bytes) as u64
}

/// `SplitMix64`'s finalizer: a bijection with good avalanche.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A request that was let in.
struct Admitted {
    payload: Payload,
    request: RequestContext,
    ack: Option<AckLevel>,
    form: DecidedForm,
    expected_bytes: u64,
    reservation: Reservation,
}

/// A decoded request of an admitted token.
pub(crate) struct Decided {
    pub(crate) payload: Payload,
    pub(crate) request: RequestContext,
    /// How the body was written as it came, and so is answered; `request` says how it is kept.
    pub(crate) came_as: BodyForm,
    pub(crate) batch: Batch,
    /// What decoding has to say in the answer.
    pub(crate) answer: Option<String>,
    pub(crate) project: Project,
    pub(crate) ack: AckLevel,
    pub(crate) form: DecidedForm,
    pub(crate) reservation: Reservation,
    /// Whether ids in the window make duplicates; they are entered in either case.
    pub(crate) believe_window: bool,
}

/// The token that a gRPC message names, by its own field or its call's metadata, checked and
/// trimmed: it goes into the record as it is here.
fn one_token(field: Option<String>, metadata: Option<String>) -> Result<Option<String>, Refusal> {
    let checked = |token: Option<String>| {
        token
            .map(|token| check_token(&token).map(str::to_owned))
            .transpose()
    };
    match (checked(field)?, checked(metadata)?) {
        (Some(field), Some(metadata)) if field != metadata => Err(Refusal::new(
            Code::ConflictingTokens,
            "the message's field and the call's authorization differ",
        )),
        (field, metadata) => Ok(field.or(metadata)),
    }
}

fn append_error_code(error: &AppendError) -> Code {
    match error {
        AppendError::WalFull { .. } => Code::WalFull,
        AppendError::QueueFull { .. } => Code::Overloaded,
        AppendError::Poisoned { error } => error_code(error),
        AppendError::Closed => Code::ShuttingDown,
    }
}

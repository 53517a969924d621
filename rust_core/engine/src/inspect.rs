//! The log of a stopped, copied or running server, for the operator's tools: what each file and
//! each record holds. No lock is taken and nothing is written, except by [`repair_log`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;

use penstock_decode::{Workspace, coding_name, content_type, decode_request};
use penstock_model::{BatchText, BodyForm, Coding, LaneId, Outcome, Payload, Position};
use penstock_wal::{FileReport, InspectItem, Inspector, LogOptions, ReadRecord, Recovery};

use crate::directory::{self, Layout};
use crate::error::EngineError;
use crate::ledger::Counts;
use crate::record::{self, StoredContext};
use crate::replay::replay;

/// Characters of a token that are shown (SEC-2).
const SHOWN_TOKEN_CHARACTERS: usize = 8;

/// What tells one event from another: with the token, the key of deduplication.
#[derive(Clone, Debug)]
pub struct AcceptedEvent {
    pub index: usize,
    pub uuid: String,
    pub event: String,
    pub distinct_id: String,
}

/// One record, without anything that was decided about it anew.
#[derive(Clone, Debug)]
pub struct InspectedRecord {
    pub lane: LaneId,
    pub position: Position,
    pub payload: Payload,
    /// Why the record can't be read as it was taken, in words; its other answers are then empty.
    pub problem: Option<String>,
    context: Vec<u8>,
    stored: Option<StoredContext>,
    /// What decoding said, where it was asked.
    token: Option<String>,
    sent_at_us: Option<i64>,
}

impl InspectedRecord {
    pub(crate) fn new(lane: LaneId, position: Position, context: &[u8], payload: Payload) -> Self {
        let (stored, problem) = match record::decode(context) {
            Ok(stored) => (Some(stored), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let sent_at_us = stored.as_ref().and_then(|stored| stored.request.sent_at_us);
        Self {
            lane,
            position,
            payload,
            problem,
            context: context.to_vec(),
            stored,
            token: None,
            sent_at_us,
        }
    }

    /// Decodes the payload, for what only that tells. Cost: as taking the request.
    pub(crate) fn decode(&mut self, context: &[u8], workspace: &mut Workspace) {
        if self.stored.is_none() {
            return;
        }
        match replay(context, &self.payload, workspace) {
            Ok((_, batch)) => {
                self.token = Some(batch.token().to_owned());
                self.sent_at_us = batch.sent_at_us;
            }
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    /// What was decided about the request, in the layout of `record.rs`.
    pub fn context(&self) -> &[u8] {
        &self.context
    }

    /// What no other request of any server has, in hexadecimal; none if the context can't be read.
    pub fn identity(&self) -> Option<String> {
        let seed = self.stored.as_ref()?.request.uuid_seed;
        Some(format!("{:032x}", u128::from_be_bytes(seed)))
    }

    /// The events that were accepted. Errors: as it can't be read. Cost: as taking the request.
    pub fn accepted_events(&self) -> Result<Vec<AcceptedEvent>, EngineError> {
        let replayed = replay(&self.context, &self.payload, &mut Workspace::default());
        let (_, batch) = replayed.map_err(|error| EngineError::UnreadableRecord {
            record: format!("the record at position {}", self.position),
            reason: error.to_string(),
        })?;
        let indexed = batch.events.iter().enumerate();
        Ok(indexed
            .filter(|(_, event)| event.outcome == Outcome::Accepted)
            .map(|(index, event)| AcceptedEvent {
                index,
                uuid: event.uuid.to_string(),
                event: String::from_utf8_lossy(batch.text_bytes(event.event)).into_owned(),
                distinct_id: String::from_utf8_lossy(batch.text_bytes(event.distinct_id))
                    .into_owned(),
            })
            .collect())
    }

    /// When the request was complete, microseconds since 1970.
    pub fn received_at_us(&self) -> i64 {
        self.stored
            .as_ref()
            .map_or(0, |stored| stored.request.received_at_us)
    }

    /// The route by which it came; empty if unknown.
    pub fn endpoint(&self) -> &'static str {
        self.stored
            .as_ref()
            .map_or("", |stored| stored.request.endpoint.name())
    }

    /// The project; shortened where it is, or may be, the token itself.
    pub fn project(&self) -> String {
        let Some(stored) = &self.stored else {
            return String::new();
        };
        match &self.token {
            Some(token) if *token != stored.project => stored.project.clone(),
            _ => shortened(&stored.project),
        }
    }

    /// The beginning of the token; none if the record was not decoded.
    pub fn token(&self) -> Option<String> {
        self.token.as_deref().map(shortened)
    }

    /// The whole token that came with the request but not in its body. Not to be shown (SEC-2).
    pub fn request_token(&self) -> Option<&str> {
        self.stored.as_ref()?.request.token.as_deref()
    }

    /// What a client of capture v1 says of itself, if that could be used.
    pub fn sdk_info(&self) -> Option<&str> {
        self.stored.as_ref()?.request.sdk_info.as_deref()
    }

    /// The client's address after the proxy rule.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.stored.as_ref()?.request.client_address
    }

    /// The client's clock when it sent, microseconds since 1970: as decoding found it, else what
    /// the request said outside of its body.
    pub fn sent_at_us(&self) -> Option<i64> {
        self.sent_at_us
    }

    /// Whether events of cookieless mode were rewritten: the payload is then not as received.
    pub fn is_rewritten(&self) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|stored| stored.request.cookieless)
    }

    /// Events by outcome.
    pub fn events(&self) -> Counts {
        let stored = self.stored.as_ref();
        stored.map_or_else(Counts::default, StoredContext::counts)
    }

    /// How the payload is written, as a `Content-Type` says it.
    pub fn content_type(&self) -> String {
        let form = self.stored.as_ref().map(|stored| &stored.request.form);
        content_type(form.unwrap_or(&BodyForm::Events))
    }

    /// What the payload is coded with, told as decoding tells it: the outermost coding's name.
    pub fn coding(&self) -> &'static str {
        let (hint, form) = match &self.stored {
            Some(stored) => (stored.request.coding, &stored.request.form),
            None => (Coding::Unspecified, &BodyForm::Events),
        };
        coding_name(self.payload.as_slice(), hint, form)
    }

    /// The text of the payload: its coding undone, and what was no UTF-8 replaced; of a body that is
    /// no events, the events that it became. A payload, so
    /// only for who asks for it (SEC-2).
    ///
    /// Errors: [`EngineError::UnreadableRecord`]. Cost: as taking the request, and a copy.
    pub fn text(&self) -> Result<Vec<u8>, EngineError> {
        let unreadable = |reason: String| EngineError::UnreadableRecord {
            record: format!("record {}", self.position),
            reason,
        };
        let stored = self
            .stored
            .as_ref()
            .ok_or_else(|| unreadable(self.problem.clone().unwrap_or_default()))?;
        let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            decode_request(&self.payload, &stored.request, &mut Workspace::default())
        }));
        let batch = decoded
            .map_err(|_| unreadable("it makes the decoder panic".to_owned()))?
            .map_err(|refusal| unreadable(refusal.code.as_str().to_owned()))?;
        Ok(match batch.text {
            BatchText::Received(payload) => payload.as_slice().to_vec(),
            BatchText::Decoded(bytes) => bytes,
        })
    }
}

/// The first characters of a text, and a mark if there are more.
fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN_TOKEN_CHARACTERS).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// What a step of checking came to.
#[derive(Debug)]
pub enum CheckStep {
    /// A part of a file was read.
    More,
    File(FileReport),
    End,
}

/// Goes through a log. Holds one commit group in memory (LIM-2).
#[derive(Debug)]
pub struct LogInspector {
    /// None if the data directory has no log yet.
    inspector: Option<Inspector>,
    last: Position,
    workspace: Workspace,
    damage: VecDeque<FileReport>,
}

impl LogInspector {
    /// Opens the log below `data_directory` for records from `first` to `last`.
    ///
    /// Errors: [`EngineError::Unusable`] if that is no data directory; a newer format.
    pub fn open(
        data_directory: &Path,
        first: Position,
        last: Position,
    ) -> Result<Self, EngineError> {
        let filesystem = crate::real_filesystem();
        let layout = Layout::new(data_directory);
        directory::check_existing(&*filesystem, &layout)?;
        let wal = layout.wal();
        let inspector = if filesystem.exists(&wal)? {
            let opened = Inspector::open(filesystem, &wal, first);
            Some(opened.map_err(|error| EngineError::opening(&error))?)
        } else {
            None
        };
        Ok(Self {
            inspector,
            last,
            workspace: Workspace::default(),
            damage: VecDeque::new(),
        })
    }

    /// The next records, those of one group at most; perhaps none. `None` at the end.
    ///
    /// With `decode`, what only decoding tells is there too, at its cost.
    pub fn next_records(
        &mut self,
        decode: bool,
    ) -> Result<Option<Vec<InspectedRecord>>, EngineError> {
        let Some(inspector) = &mut self.inspector else {
            return Ok(None);
        };
        let item = inspector
            .next_item()
            .map_err(|error| EngineError::log(&error))?;
        match item {
            Some(InspectItem::Records(records)) => {
                if records.iter().any(|record| record.position > self.last) {
                    // Positions only grow: nothing that is wanted comes after.
                    self.inspector = None;
                }
                let wanted = records
                    .into_iter()
                    .filter(|record| record.position <= self.last);
                let workspace = &mut self.workspace;
                Ok(Some(
                    wanted
                        .map(|record| inspected(record, decode, workspace))
                        .collect(),
                ))
            }
            Some(InspectItem::File(report)) => {
                if !report.damage.is_empty() {
                    self.damage.push_back(report);
                }
                Ok(Some(Vec::new()))
            }
            None => Ok(None),
        }
    }

    /// Takes the report of a damaged file that [`Self::next_records`] has passed.
    pub fn take_damaged(&mut self) -> Option<FileReport> {
        self.damage.pop_front()
    }

    /// Checks a little more of the log: one group, or one file that is done with.
    pub fn check(&mut self) -> Result<CheckStep, EngineError> {
        let Some(inspector) = &mut self.inspector else {
            return Ok(CheckStep::End);
        };
        let item = inspector
            .next_item()
            .map_err(|error| EngineError::log(&error))?;
        Ok(match item {
            Some(InspectItem::Records(_)) => CheckStep::More,
            Some(InspectItem::File(report)) => CheckStep::File(report),
            None => CheckStep::End,
        })
    }
}

fn inspected(record: ReadRecord, decode: bool, workspace: &mut Workspace) -> InspectedRecord {
    let mut inspected = InspectedRecord::new(
        record.lane,
        record.position,
        &record.context,
        record.payload,
    );
    if decode {
        inspected.decode(&record.context, workspace);
    }
    inspected
}

/// Repairs the log below `data_directory` as opening it does: moves damage aside, cuts a torn tail.
///
/// Errors: [`EngineError::InUse`] while a server runs; as [`LogInspector::open`] besides.
/// Durability: on `Ok`, everything that the log gives back is synced. May be done again.
pub fn repair_log(data_directory: &Path) -> Result<Recovery, EngineError> {
    let filesystem = crate::real_filesystem();
    let layout = Layout::new(data_directory);
    directory::check_existing(&*filesystem, &layout)?;
    let lock = directory::lock(&*filesystem, &layout)?;
    let repaired = penstock_wal::repair(&*filesystem, &layout.wal(), &LogOptions::default());
    drop(lock);
    repaired.map_err(|error| EngineError::opening(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_up_to_its_eighth_character() {
        assert_eq!(shortened("phc_1234"), "phc_1234");
        assert_eq!(shortened("phc_12345"), "phc_1234…");
        assert_eq!(shortened("ääääääääö"), "ääääääää…");
    }
}

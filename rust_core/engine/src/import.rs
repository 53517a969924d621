//! Records of another log, or of the quarantine, taken as they were decided when they came.
//!
//! Nothing is decided anew: receipt, project, limits, ids that were made and refusals stay as the
//! record's context has them. Only what this log knows better is: events that it has already.

use penstock_decode::Workspace;
use penstock_model::{AckLevel, Outcome, Payload, Refusal};

use crate::decided::DecidedForm;
use crate::engine::Engine;
use crate::foreground::{Decided, Ids};
use crate::projects::Project;
use crate::replay::replay;

/// A record, and what is known about it.
#[derive(Debug)]
pub struct ImportedRecord {
    /// The context, as the log that took it has it.
    pub context: Vec<u8>,
    pub payload: Payload,
    /// Indexes of events that the tables have: they become duplicates.
    pub stored: Vec<u32>,
    /// Whether an id in the window says that the event is stored. It does not for a record of this
    /// very log that was set aside: the ids are its own.
    pub believe_window: bool,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Trying again may help.
    #[error("{0}")]
    Refused(Refusal),
    /// It does not give the events that were acknowledged.
    #[error("{reason}")]
    Unreadable { reason: String },
}

impl<T: Send + 'static> Engine<T> {
    /// Appends a record on the calling thread, for tools; `ticket` comes back from `drain` once it
    /// is synced.
    ///
    /// Durability: none yet, as of `submit`. Cost: decoding it.
    pub fn import(&self, ticket: T, record: ImportedRecord) -> Result<(), (T, ImportError)> {
        match self.take_in(record) {
            Ok(decided) => {
                self.foreground.append(ticket, decided, &mut Ids::default());
                Ok(())
            }
            Err(error) => Err((ticket, error)),
        }
    }

    fn take_in(&self, record: ImportedRecord) -> Result<Decided, ImportError> {
        let replayed = replay(&record.context, &record.payload, &mut Workspace::default());
        let (stored, mut batch) = replayed.map_err(|error| ImportError::Unreadable {
            reason: error.to_string(),
        })?;
        for index in record.stored {
            let event = batch.events.get_mut(index as usize);
            if let Some(event) = event.filter(|event| event.outcome == Outcome::Accepted) {
                event.outcome = Outcome::Duplicate;
            }
        }
        let held_bytes = batch.held_bytes() + record.payload.len();
        let reservation = self
            .shared
            .admission
            .admit(held_bytes as u64)
            .map_err(ImportError::Refused)?;
        self.shared.projects.seen(batch.token());
        Ok(Decided {
            payload: record.payload,
            came_as: stored.request.form.clone(),
            request: stored.request,
            batch,
            answer: None,
            project: Project {
                name: stored.project.into(),
                ack: None,
                discard_client_ip: None,
            },
            ack: AckLevel::Disk,
            form: DecidedForm::Http,
            reservation,
            believe_window: record.believe_window,
        })
    }
}

//! What a decided request will be answered with, once its record is where it must be.

use penstock_decode::{export_response, v1};
use penstock_model::{AckLevel, Batch, BodyForm, Outcome};

use crate::answer::SubmitSummary;
use crate::shared::{Answer, ExceptionRow, Form};

/// In which form a request came, and so is answered.
#[derive(Clone, Copy)]
pub(crate) enum DecidedForm {
    Http,
    V1,
    Append,
}

impl<T> Answer<T> {
    /// Adds what is told of a body that is no events: what decoding says, or how many spans were
    /// not stored.
    pub(crate) fn telling(mut self, form: &BodyForm, told: Option<String>) -> Self {
        let summary = &mut self.summary;
        summary.answer = match form {
            BodyForm::Events => None,
            BodyForm::AiParts { .. } => told.map(String::into_bytes),
            BodyForm::OtlpProtobuf | BodyForm::OtlpJson => {
                let message = summary.first_rejection.map(|(index, code)| {
                    let (name, text) = (code.as_str(), code.public_text());
                    format!("{text}: event {index}: {name}")
                });
                let message = message.unwrap_or_default();
                Some(export_response(form, summary.rejected, &message))
            }
        };
        self
    }
}

/// What of an answer can be made before the outcome of deduplication is known, and so without the
/// sequencer's lock.
pub(crate) fn make_form(form: DecidedForm, batch: &Batch) -> Form {
    match form {
        DecidedForm::Http => Form::Http,
        DecidedForm::V1 => Form::V1 {
            results: v1::write_results(batch, true),
        },
        DecidedForm::Append => Form::Append {
            exceptions: Vec::new(),
        },
    }
}

/// Counts what became of each event; the answer is owed once the record is where it must be.
#[expect(clippy::expect_used, reason = "max_events_per_request is a u32")]
pub(crate) fn make_answer<T>(ticket: T, ack: AckLevel, mut form: Form, batch: &Batch) -> Answer<T> {
    let mut summary = SubmitSummary {
        accepted: 0,
        duplicates: 0,
        rejected: 0,
        log_position: 0,
        first_rejection: None,
        answer: None,
    };
    for (index, event) in batch.events.iter().enumerate() {
        match event.outcome {
            Outcome::Accepted => {
                summary.accepted += 1;
                continue;
            }
            Outcome::Duplicate => summary.duplicates += 1,
            Outcome::Rejected(code) => {
                summary.rejected += 1;
                if summary.first_rejection.is_none() {
                    let index = u32::try_from(index).expect("events are counted by a u32");
                    summary.first_rejection = Some((index, code));
                }
            }
        }
        if let Form::Append { exceptions } = &mut form {
            exceptions.push(ExceptionRow {
                index: u32::try_from(index).expect("events are counted by a u32"),
                outcome: event.outcome,
                uuid: if event.uuid_given {
                    event.uuid.to_string()
                } else {
                    String::new()
                },
            });
        }
    }
    Answer {
        ticket,
        summary,
        form,
        ack,
    }
}

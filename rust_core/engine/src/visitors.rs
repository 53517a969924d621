//! The step of cookieless mode: ids for visitors before the log, under salts that are on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penstock_cookieless::{OpenReport, SaltError, Salts};
use penstock_decode::{Workspace, decode_cookieless};
use penstock_disk::{Filesystem, is_disk_full};
use penstock_model::{Batch, Code, Payload, Refusal, RequestContext};

use crate::directory::Layout;
use crate::error::{EngineError, with_causes};
use crate::foreground::Foreground;
use crate::journal::{Journal, LogLevel};

/// The salts, and whether they can be used.
pub(crate) struct Visitors {
    salts: Salts,
    /// The last salt that was to be made, or deleted, could not be; told once until it can.
    cannot_make: AtomicBool,
    cannot_delete: AtomicBool,
}

impl Visitors {
    pub(crate) fn open(
        filesystem: &Arc<dyn Filesystem>,
        layout: &Layout,
        now_us: i64,
    ) -> Result<(Self, OpenReport), EngineError> {
        let directory = layout.cookieless();
        let opened = Salts::open(Arc::clone(filesystem), &directory, now_us);
        let (salts, report) = opened.map_err(|error| EngineError::Unusable {
            path: layout.root.clone(),
            reason: with_causes(&error),
        })?;
        let visitors = Self {
            salts,
            cannot_make: AtomicBool::new(false),
            cannot_delete: AtomicBool::new(false),
        };
        Ok((visitors, report))
    }

    /// Deletes the salts of days that are over. Costs nothing while there are none.
    pub(crate) fn expire(&self, now_us: i64, journal: &Journal) {
        match self.salts.expire(now_us) {
            Ok(0) => {}
            Ok(count) => {
                self.cannot_delete.store(false, Ordering::Relaxed);
                tell_deleted(count, journal);
            }
            Err(error) => {
                if !self.cannot_delete.swap(true, Ordering::Relaxed) {
                    tell(
                        LogLevel::Error,
                        "cookieless_salt_not_deleted",
                        &error,
                        journal,
                    );
                }
            }
        }
    }

    /// Days that have a salt.
    pub(crate) fn salts(&self) -> usize {
        self.salts.count()
    }

    /// The answer to a request that waits for a salt that can't be stored: nothing of it may be,
    /// since its visitors would have other ids once it can.
    fn refusal(&self, error: &SaltError, journal: &Journal) -> Refusal {
        if !self.cannot_make.swap(true, Ordering::Relaxed) {
            tell(LogLevel::Error, "cookieless_salt_not_made", error, journal);
        }
        let code = if is_disk_full(&error.source) {
            Code::DiskFull
        } else {
            Code::StorageFailed
        };
        Refusal::new(code, "")
    }
}

/// Tells what opening found.
pub(crate) fn report(journal: &Journal, report: &OpenReport) {
    for file in &report.damaged {
        let fields = vec![("file", file.clone())];
        journal.add(LogLevel::Warning, "cookieless_salt_damaged", fields);
    }
    if report.expired > 0 {
        tell_deleted(report.expired, journal);
    }
}

fn tell_deleted(count: usize, journal: &Journal) {
    let fields = vec![("count", count.to_string())];
    journal.add(LogLevel::Info, "cookieless_salts_deleted", fields);
}

fn tell(level: LogLevel, name: &'static str, error: &SaltError, journal: &Journal) {
    journal.add(level, name, vec![("error", with_causes(error))]);
}

impl<T: Send + 'static> Foreground<T> {
    /// Gives the visitors of a decoded request their ids: payload and context become such as the
    /// log may hold. On the decode worker; the first event of a day waits for its salt's syncs.
    pub(crate) fn identify_visitors(
        &self,
        payload: &Payload,
        request: &mut RequestContext,
        batch: Batch,
        answer: Option<String>,
        project: &str,
        workspace: &mut Workspace,
    ) -> Result<(Payload, Batch, Option<String>), Refusal> {
        let visitors = &self.shared.visitors;
        let journal = &self.shared.journal;
        // Not now: a wall clock that has jumped since must not make a day of the future of today.
        let now_us = request.received_at_us;
        let mut identify = |visit: &penstock_model::Visit<'_>| {
            let ids = visitors.salts.ids_of(project, visit, now_us);
            ids.map_err(|error| visitors.refusal(&error, journal))
        };
        let decoded = decode_cookieless(payload, request, batch, answer, workspace, &mut identify)?;
        if visitors.cannot_make.load(Ordering::Relaxed) {
            visitors.cannot_make.store(false, Ordering::Relaxed);
        }
        Ok(decoded)
    }
}

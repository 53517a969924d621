//! What the engine wants logged, kept until the caller takes it.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How much an operator must do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A life-cycle change.
    Info,
    /// Recovered; nobody needs to act now.
    Warning,
    /// Data is at stake or a person is needed.
    Error,
}

impl LogLevel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A constant event name with fields. No payload and no secret (SEC-2).
#[derive(Clone, Debug)]
pub struct LogEvent {
    pub level: LogLevel,
    pub name: &'static str,
    pub fields: Vec<(&'static str, String)>,
}

/// Events not yet taken. More than this means that nobody takes them: the oldest go.
const MAX_EVENTS: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Journal {
    events: Mutex<VecDeque<LogEvent>>,
}

impl Journal {
    pub(crate) fn add(
        &self,
        level: LogLevel,
        name: &'static str,
        fields: Vec<(&'static str, String)>,
    ) {
        let mut events = self.events.lock();
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(LogEvent {
            level,
            name,
            fields,
        });
    }

    pub(crate) fn take(&self) -> Vec<LogEvent> {
        self.events.lock().drain(..).collect()
    }
}

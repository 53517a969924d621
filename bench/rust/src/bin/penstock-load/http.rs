//! HTTP/1.1 over keep-alive connections, one request in flight on each, one thread, epoll.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use penstock_model::Clock;

use crate::args::Args;
use crate::report::Report;
use crate::source::Source;

/// Answers still due when the time is over get this long.
const MAX_DRAIN: Duration = Duration::from_secs(30);

/// Between two looks at the clock.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// What an answer may wait for being read while the next request is not due. The load neither spins,
/// which would keep the server off its core, nor adds what shows in a latency.
const MAX_UNSEEN: Duration = Duration::from_micros(100);
/// Connections that may break before the run is given up.
const MAX_BROKEN: u64 = 256;
/// Heads and bodies of answers are small; a longer answer is none of penstock's.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
const EXPECTED: &[u8] = br#"{"status":"Ok"}"#;

/// What epoll can wait without being late: it counts milliseconds, and what is over is rounded up. A
/// request that is due in 1.2 ms would go after 2.
fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The body on its way, and how much of it is written.
    sending: Option<(usize, usize)>,
    sent_bytes: usize,
    due_nanos: u64,
    busy: bool,
    answer: Vec<u8>,
}

/// What the bytes received so far are.
#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    Partial,
    /// Status and body; `closes`: the server asked for the connection's end.
    Whole {
        status: u16,
        body: &'a [u8],
        closes: bool,
    },
    Unreadable,
}

/// Runs the load until the time or the bodies are used up, then waits for the open answers.
pub(crate) fn run(args: &Args, source: Source, clock: &dyn Clock) -> io::Result<Report> {
    let mut load = Load::new(args, source, clock)?;
    load.run()?;
    Ok(load.report)
}

#[derive(Debug)]
struct Load<'a> {
    args: &'a Args,
    clock: &'a dyn Clock,
    source: Source,
    poll: Poll,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    report: Report,
    started: u64,
    ends: u64,
    sent: usize,
    broken: u64,
}

impl<'a> Load<'a> {
    fn new(args: &'a Args, source: Source, clock: &'a dyn Clock) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(args.connections);
        for lane in 0..args.connections {
            connections.push(Connection {
                stream: connect(args, &poll, lane)?,
                sending: None,
                sent_bytes: 0,
                due_nanos: 0,
                busy: false,
                answer: Vec::with_capacity(1024),
            });
        }
        let report = Report::start(clock);
        let started = clock.monotonic_nanos();
        Ok(Self {
            args,
            clock,
            source,
            poll,
            idle: (0..args.connections).collect(),
            connections,
            report,
            started,
            ends: started + nanos(args.duration),
            sent: 0,
            broken: 0,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let drain_ends = self.ends + nanos(MAX_DRAIN);
        loop {
            let wait = self.start_due()?;
            let now = self.clock.monotonic_nanos();
            if now >= drain_ends || (wait.is_none() && self.in_flight() == 0) {
                break;
            }
            let limit = wait.unwrap_or(MAX_WAIT).min(MAX_WAIT);
            let timeout = whole_millis(limit);
            let is_short = timeout.is_zero();
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if is_short && events.is_empty() {
                #[expect(clippy::disallowed_methods, reason = "the load runs in real time")]
                std::thread::sleep(limit.min(MAX_UNSEEN));
            }
            for event in &events {
                let lane = event.token().0;
                if event.is_writable() && self.connections[lane].sending.is_some() {
                    self.write(lane)?;
                }
                if event.is_readable() {
                    self.read(lane)?;
                }
            }
        }
        for _ in 0..self.in_flight() {
            self.report.failed("no_answer");
        }
        if let Some(interval) = self.interval_nanos() {
            let due = usize::try_from(nanos(self.args.duration) / interval).unwrap_or(usize::MAX);
            self.report.unsent = due.min(self.args.max_requests).saturating_sub(self.sent) as u64;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.connections.len() - self.idle.len()
    }

    fn interval_nanos(&self) -> Option<u64> {
        self.args.rate.map(|rate| 1_000_000_000 / u64::from(rate))
    }

    /// Starts what is due on idle connections. Some(wait): more is to come, look again after that.
    fn start_due(&mut self) -> io::Result<Option<Duration>> {
        loop {
            let now = self.clock.monotonic_nanos();
            if now >= self.ends || self.sent >= self.args.max_requests {
                return Ok(None);
            }
            let due = match self.interval_nanos() {
                None => now,
                // Latency counts from here, also when no connection is free: a slow server must
                // not slow down the clock that judges it.
                Some(interval) => self.started + interval * self.sent as u64,
            };
            if due > now {
                return Ok(Some(Duration::from_nanos(due - now)));
            }
            let Some(lane) = self.idle.pop_front() else {
                return Ok(Some(MAX_WAIT));
            };
            let Some(body) = self.source.next(lane) else {
                self.idle.push_front(lane);
                self.ends = now;
                return Ok(None);
            };
            self.sent += 1;
            let connection = &mut self.connections[lane];
            connection.due_nanos = due;
            connection.busy = true;
            connection.sent_bytes = self.source.bytes(body).len();
            connection.sending = Some((body, 0));
            self.write(lane)?;
        }
    }

    fn write(&mut self, lane: usize) -> io::Result<()> {
        let connection = &mut self.connections[lane];
        while let Some((body, written)) = connection.sending {
            let bytes = self.source.bytes(body);
            #[expect(clippy::disallowed_methods, reason = "short writes are kept count of")]
            match connection.stream.write(&bytes[written..]) {
                Ok(count) if written + count == bytes.len() => connection.sending = None,
                Ok(count) => connection.sending = Some((body, written + count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::NotConnected => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.reconnect(lane, "connection_lost"),
            }
        }
        Ok(())
    }

    fn read(&mut self, lane: usize) -> io::Result<()> {
        let mut chunk = [0; 4096];
        loop {
            let connection = &mut self.connections[lane];
            match connection.stream.read(&mut chunk) {
                Ok(0) => return self.reconnect(lane, "connection_lost"),
                Ok(count) => {
                    connection.answer.extend_from_slice(&chunk[..count]);
                    self.take_answer(lane)?;
                    // A short read emptied the socket; the next bytes are a new epoll event.
                    if count < chunk.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.reconnect(lane, "connection_lost"),
            }
        }
    }

    fn take_answer(&mut self, lane: usize) -> io::Result<()> {
        let connection = &mut self.connections[lane];
        let (status, right, closes) = match parse(&connection.answer) {
            Answer::Partial => return Ok(()),
            Answer::Unreadable => return self.reconnect(lane, "unreadable_answer"),
            Answer::Whole {
                status,
                body,
                closes,
            } => (status, self.args.any_answer || body == EXPECTED, closes),
        };
        connection.answer.clear();
        if !connection.busy || connection.sending.is_some() {
            // Answered before the whole request was sent: a refusal. The rest of the body would be
            // taken for the next request.
            return self.reconnect(lane, &status.to_string());
        }
        let now = self.clock.monotonic_nanos();
        if status == 200 && right {
            let (bytes, due) = (connection.sent_bytes, connection.due_nanos);
            self.report
                .acknowledged(self.source.events(), bytes, due, now);
        } else if status == 200 {
            self.report.failed("other_body");
        } else {
            self.report.failed(&status.to_string());
        }
        connection.busy = false;
        if closes {
            self.connections[lane].stream = connect(self.args, &self.poll, lane)?;
        }
        self.idle.push_back(lane);
        Ok(())
    }

    /// Counts a request as failed, if one was open, and opens the connection anew.
    fn reconnect(&mut self, lane: usize, kind: &str) -> io::Result<()> {
        let connection = &mut self.connections[lane];
        if connection.busy {
            connection.busy = false;
            self.report.failed(kind);
            self.idle.push_back(lane);
        }
        connection.sending = None;
        connection.answer.clear();
        self.broken += 1;
        if self.broken > MAX_BROKEN {
            return Err(io::Error::other(format!(
                "{} connections broke: {kind}",
                self.broken
            )));
        }
        self.connections[lane].stream = connect(self.args, &self.poll, lane)?;
        Ok(())
    }
}

fn connect(args: &Args, poll: &Poll, lane: usize) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(args.target)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let mut stream = TcpStream::from_std(stream);
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut stream, Token(lane), interest)?;
    Ok(stream)
}

/// Reads an answer with `Content-Length`. Without one it is unreadable: penstock always gives it.
fn parse(bytes: &[u8]) -> Answer<'_> {
    let Some(head_len) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > MAX_ANSWER_BYTES {
            Answer::Unreadable
        } else {
            Answer::Partial
        };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..head_len]) else {
        return Answer::Unreadable;
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok());
    let (mut length, mut closes) = (None, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Answer::Unreadable;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let (Some(status), Some(length)) = (status, length) else {
        return Answer::Unreadable;
    };
    let body = &bytes[head_len + 4..];
    if length > MAX_ANSWER_BYTES || body.len() > length {
        return Answer::Unreadable;
    }
    if body.len() < length {
        return Answer::Partial;
    }
    Answer::Whole {
        status,
        body,
        closes,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_handed_to_epoll_never_ends_late() {
        for (micros, millis) in [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (100_000, 100)] {
            let wait = whole_millis(Duration::from_micros(micros));
            assert_eq!(wait, Duration::from_millis(millis));
        }
    }

    #[test]
    fn an_answer_is_read_in_pieces() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"Ok\"}";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Answer::Partial);
        }
        assert_eq!(
            parse(whole),
            Answer::Whole {
                status: 200,
                body: EXPECTED,
                closes: false
            }
        );
    }

    #[test]
    fn a_refusal_that_closes_is_seen() {
        let answer = b"HTTP/1.1 503 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(
            parse(answer),
            Answer::Whole {
                status: 503,
                body: b"",
                closes: true
            }
        );
    }

    #[test]
    fn more_than_was_asked_for_is_unreadable() {
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"),
            Answer::Unreadable
        );
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Answer::Unreadable);
    }
}

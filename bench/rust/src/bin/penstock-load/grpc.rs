//! Unary gRPC over HTTP/2 without TLS, a few streams on each of a few connections, one thread.
//!
//! Messages are framed by hand: a generated client would cost the load's core more than the
//! service costs its own.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request};
use penstock_model::{Clock, SystemClock};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::args::Args;
use crate::report::Report;
use crate::source::Source;

const PATH: &str = "penstock.v1.IngestService/Append";
/// Answers still due when the time is over get this long.
const MAX_DRAIN: Duration = Duration::from_secs(30);
/// `AppendResponse` of a request without exceptions is below 20 bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct State {
    clock: SystemClock,
    source: Source,
    report: Report,
    started: u64,
    ends: u64,
    interval_nanos: Option<u64>,
    sent: usize,
    max_requests: usize,
}

/// Runs the load until the time or the bodies are used up, then waits for the open answers.
pub(crate) fn run(args: &Args, source: Source, clock: SystemClock) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, drive(args, source, clock))
}

async fn drive(args: &Args, source: Source, clock: SystemClock) -> io::Result<Report> {
    let mut senders = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        senders.push(connect(args.target).await?);
    }
    let report = Report::start(&clock);
    let started = clock.monotonic_nanos();
    let length = u64::try_from(args.duration.as_nanos()).unwrap_or(u64::MAX);
    let state = Rc::new(RefCell::new(State {
        clock,
        source,
        report,
        started,
        ends: started.saturating_add(length),
        interval_nanos: args.rate.map(|rate| 1_000_000_000 / u64::from(rate)),
        sent: 0,
        max_requests: args.max_requests,
    }));
    let lanes = args.connections * args.streams;
    let mut running = JoinSet::new();
    for lane in 0..lanes {
        let sender = senders[lane % args.connections].clone();
        running.spawn_local(send_on(lane, sender, args.target, Rc::clone(&state)));
    }
    let all = async { while running.join_next().await.is_some() {} };
    let finished = tokio::time::timeout(args.duration + MAX_DRAIN, all)
        .await
        .is_ok();
    running.abort_all();
    while running.join_next().await.is_some() {}
    let state = Rc::try_unwrap(state).map_err(|_| io::Error::other("a stream still runs"))?;
    let mut state = state.into_inner();
    if !finished {
        let missing = (state.sent as u64).saturating_sub(state.report.ended());
        for _ in 0..missing {
            state.report.failed("no_answer");
        }
    }
    if let Some(interval) = state.interval_nanos {
        let due = usize::try_from(length / interval)
            .unwrap_or(usize::MAX)
            .min(state.max_requests);
        state.report.unsent = due.saturating_sub(state.sent) as u64;
    }
    Ok(state.report)
}

async fn connect(target: SocketAddr) -> io::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    // The connection's own task; when it fails, so do the calls on it, and they are counted.
    drop(tokio::task::spawn_local(
        async move { drop(connection.await) },
    ));
    Ok(sender)
}

/// One stream after the other, each a call.
async fn send_on(
    lane: usize,
    mut sender: SendRequest<Bytes>,
    target: SocketAddr,
    state: Rc<RefCell<State>>,
) {
    loop {
        let Some((message, due)) = next(lane, &state).await else {
            return;
        };
        let len = message.len();
        let result = match sender.ready().await {
            Ok(ready) => {
                sender = ready;
                call(&mut sender, target, message).await
            }
            Err(error) => {
                state.borrow_mut().report.failed(&kind(&error));
                return;
            }
        };
        let mut state = state.borrow_mut();
        let now = state.clock.monotonic_nanos();
        let events = state.source.events();
        match result {
            Ok(accepted) if usize::try_from(accepted) == Ok(events) => {
                state.report.acknowledged(events, len, due, now);
            }
            Ok(_) => state.report.failed("other_answer"),
            Err(failure) => state.report.failed(&failure),
        }
    }
}

/// The next message and its intended start; waits for that in an open loop.
async fn next(lane: usize, state: &RefCell<State>) -> Option<(Bytes, u64)> {
    let (due, wait) = {
        let mut state = state.borrow_mut();
        let now = state.clock.monotonic_nanos();
        if now >= state.ends || state.sent >= state.max_requests {
            return None;
        }
        let due = match state.interval_nanos {
            None => now,
            Some(interval) => state.started + interval * state.sent as u64,
        };
        if due >= state.ends {
            return None;
        }
        state.sent += 1;
        (due, due.saturating_sub(now))
    };
    if wait > 0 {
        tokio::time::sleep(Duration::from_nanos(wait)).await;
    }
    let mut state = state.borrow_mut();
    let Some(body) = state.source.next(lane) else {
        state.sent -= 1;
        state.ends = state.clock.monotonic_nanos();
        return None;
    };
    Some((Bytes::copy_from_slice(state.source.bytes(body)), due))
}

/// Makes one call; Ok: how many events were accepted.
async fn call(
    sender: &mut SendRequest<Bytes>,
    target: SocketAddr,
    message: Bytes,
) -> Result<u64, String> {
    let request = Request::post(format!("http://{target}/{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|_| "invalid_request".to_owned())?;
    let (response, mut body) = sender
        .send_request(request, false)
        .map_err(|error| kind(&error))?;
    body.send_data(message, true)
        .map_err(|error| kind(&error))?;
    let response = response.await.map_err(|error| kind(&error))?;
    let early = status(response.headers());
    let mut answer = Vec::new();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|error| kind(&error))?;
        body.flow_control()
            .release_capacity(chunk.len())
            .map_err(|error| kind(&error))?;
        answer.extend_from_slice(&chunk);
        if answer.len() > MAX_ANSWER_BYTES {
            return Err("answer_too_long".to_owned());
        }
    }
    let trailers = body.trailers().await.map_err(|error| kind(&error))?;
    match early
        .or_else(|| trailers.as_ref().and_then(status))
        .as_deref()
    {
        Some("0") => accepted(&answer).ok_or_else(|| "unreadable_answer".to_owned()),
        Some(other) => Err(format!("grpc_{other}")),
        None => Err("no_status".to_owned()),
    }
}

fn status(headers: &HeaderMap) -> Option<String> {
    headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

/// A failure in few words: no addresses, so that equal ones are counted together.
fn kind(error: &h2::Error) -> String {
    error.reason().map_or_else(
        || "connection_lost".to_owned(),
        |reason| format!("http2_{:x}", u32::from(reason)),
    )
}

/// Reads `accepted` (field 3) of an `AppendResponse` that reached the disk (field 2).
fn accepted(framed: &[u8]) -> Option<u64> {
    let (&compressed, rest) = framed.split_first()?;
    let (len, mut rest) = rest.split_first_chunk::<4>()?;
    if compressed != 0 || usize::try_from(u32::from_be_bytes(*len)) != Ok(rest.len()) {
        return None;
    }
    let (mut reached, mut accepted) = (0, 0);
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = varint(&mut rest)?;
        match key {
            0x10 => reached = value,
            0x18 => accepted = value,
            // A field of length-delimited type: its bytes follow.
            _ if key & 7 == 2 => rest = rest.get(usize::try_from(value).ok()?..)?,
            _ => {}
        }
    }
    (reached >= 2).then_some(accepted)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reached_the_disk_counts() {
        assert_eq!(
            accepted(&[0, 0, 0, 0, 7, 8, 200, 1, 16, 2, 24, 50]),
            Some(50)
        );
        assert_eq!(accepted(&[0, 0, 0, 0, 7, 8, 200, 1, 16, 1, 24, 50]), None);
        assert_eq!(accepted(&[0, 0, 0, 0, 8, 8, 200, 1, 16, 2, 24, 50]), None);
    }
}

//! The bodies that are sent: every event of every request has an id of its own.

use std::thread;

use penstock_bench::{Body, Compressor, Corpus, Ids};

use crate::args::{Args, Protocol};

/// Different events in plain bodies. Few enough to be made in a blink, many enough that neither
/// the reader's caches nor the table's compression see the same text all the time (35 MB).
const DISTINCT_EVENTS: usize = 32_768;

/// Compressed bodies may hold this much memory.
const MAX_POOL_BYTES: usize = 1_500 << 20;

/// Where a lane (a connection or stream) takes its next body from.
#[derive(Debug)]
pub(crate) struct Source {
    bodies: Vec<Body>,
    /// Bodies of each lane; 0: a pool whose bodies are sent once each.
    per_lane: usize,
    turns: Vec<usize>,
    taken: usize,
    ids: Ids,
    events: usize,
}

impl Source {
    pub(crate) fn new(args: &Args, lanes: usize) -> Self {
        if args.gzip {
            return Self {
                bodies: pool(args),
                per_lane: 0,
                turns: Vec::new(),
                taken: 0,
                ids: Ids::new(args.id_space),
                events: args.events,
            };
        }
        let per_lane = (DISTINCT_EVENTS / (lanes * args.events)).max(1);
        let mut corpus = Corpus::new(args.seed);
        let mut bodies = Vec::with_capacity(per_lane * lanes);
        for _ in 0..per_lane * lanes {
            bodies.push(framed(args, corpus.body(args.events)));
        }
        Self {
            bodies,
            per_lane,
            turns: vec![0; lanes],
            taken: 0,
            ids: Ids::new(args.id_space),
            events: args.events,
        }
    }

    /// Gives new ids to the lane's next body and names it. None: the pool is used up.
    ///
    /// A lane's body stays as it is until the lane asks again.
    pub(crate) fn next(&mut self, lane: usize) -> Option<usize> {
        if self.per_lane == 0 {
            let index = self.taken;
            self.taken += 1;
            return (index < self.bodies.len()).then_some(index);
        }
        let turn = self.turns[lane];
        self.turns[lane] = (turn + 1) % self.per_lane;
        let index = lane * self.per_lane + turn;
        self.bodies[index].stamp(&mut self.ids);
        Some(index)
    }

    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        &self.bodies[index].bytes
    }

    pub(crate) fn events(&self) -> usize {
        self.events
    }
}

/// Makes compressed bodies on all cores, so that compressing costs nothing during the run.
fn pool(args: &Args) -> Vec<Body> {
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(16);
    let share = args.pool.div_ceil(workers);
    let mut bodies = Vec::with_capacity(share * workers);
    thread::scope(|scope| {
        let mut made = Vec::new();
        for worker in 0..workers {
            made.push(
                scope.spawn(move || compressed(args, worker, share, MAX_POOL_BYTES / workers)),
            );
        }
        for handle in made {
            // A panic there is a bug here; the run ends with it.
            bodies.extend(handle.join().unwrap_or_default());
        }
    });
    bodies
}

fn compressed(args: &Args, worker: usize, count: usize, max_bytes: usize) -> Vec<Body> {
    // Each worker has ids of its own: the caller's space times 16, plus its number.
    let space = u16::try_from(usize::from(args.id_space) % 64 * 16 + worker).unwrap_or(0);
    let mut ids = Ids::new(space);
    let mut corpus = Corpus::new(args.seed + worker as u64);
    let mut compressor = Compressor::new(6);
    let mut bodies = Vec::with_capacity(count);
    let mut held = 0;
    let mut out = Vec::new();
    while bodies.len() < count && held < max_bytes {
        let mut body = corpus.body(args.events);
        body.stamp(&mut ids);
        out.clear();
        compressor.compress(&body.bytes, &mut out);
        let packed = Body {
            bytes: out.clone(),
            id_offsets: Vec::new(),
        };
        let packed = framed(args, packed);
        held += packed.bytes.len();
        bodies.push(packed);
    }
    bodies
}

/// Puts before the body what the protocol wants there.
fn framed(args: &Args, mut body: Body) -> Body {
    match args.protocol {
        Protocol::Http => {
            let coding = if args.gzip {
                "Content-Encoding: gzip\r\n"
            } else {
                ""
            };
            let head = format!(
                "POST /batch/ HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{coding}Content-Length: {}\r\n\r\n",
                args.target,
                body.bytes.len()
            );
            body.prepend(head.as_bytes());
        }
        Protocol::Grpc => {
            // AppendRequest {coding = 2: identity 1 or gzip 2; body = 3}; the token is in the body.
            let mut message = vec![0x10, if args.gzip { 2 } else { 1 }, 0x1a];
            put_varint(&mut message, body.bytes.len());
            let len = message.len() + body.bytes.len();
            // gRPC's prefix: not compressed, then the length in four bytes, most significant first.
            let mut head = vec![0];
            head.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
            head.extend_from_slice(&message);
            body.prepend(&head);
        }
    }
    body
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::parse(line.split_whitespace().map(str::to_owned)).unwrap()
    }

    #[test]
    fn no_body_is_sent_twice_with_the_same_ids() {
        let mut source = Source::new(&args("--events 500"), 64);
        let first = source.next(3).unwrap();
        let before = source.bytes(first).to_vec();
        let again = source.next(3).unwrap();
        assert_eq!(first, again, "one body for each lane at this size");
        assert_ne!(source.bytes(again), before);
    }

    #[test]
    fn a_pool_ends() {
        let mut source = Source::new(&args("--events 2 --gzip --pool 4"), 64);
        let mut taken = 0;
        while source.next(0).is_some() {
            taken += 1;
        }
        assert!((4..=32).contains(&taken));
    }

    #[test]
    fn a_grpc_message_is_framed() {
        let mut source = Source::new(&args("--protocol grpc --events 50"), 1);
        let index = source.next(0).unwrap();
        let bytes = source.bytes(index);
        let len = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        assert_eq!(bytes[0], 0);
        assert_eq!(usize::try_from(len).unwrap(), bytes.len() - 5);
        assert_eq!(&bytes[5..8], &[0x10, 1, 0x1a]);
    }
}

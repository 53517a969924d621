//! Decodes records that are read back on several cores, and gives what comes of them in their order.
//!
//! For a start on much that has no seal: decoding is most of its time. One thread reads, some decode,
//! and the caller's thread takes the results. Bounded: each thread has at most [`QUEUED_CHUNKS`]
//! chunks before it and behind it (LIM-1).

use std::sync::mpsc::sync_channel;

use penstock_wal::ReadRecord;

/// Chunks that wait for a thread, or for the caller behind it.
const QUEUED_CHUNKS: usize = 2;

/// Bytes of a chunk: small next to a commit group, which its records share; large enough that handing
/// it on costs nothing.
const CHUNK_BYTES: usize = 256 << 10;

/// What a record without a payload counts, so that a chunk has a most of them.
const RECORD_BYTES: usize = 256;

/// Passes each record of `source` to a decoder made by `decoder`, one for each of `threads`, and all
/// results in the order of the records to `take`. Returns how many records there were.
///
/// Errors: the first of the source, of a decoder or of `take`, in the order of the records.
pub(crate) fn decode_in_order<D, E, F>(
    source: impl Iterator<Item = Result<ReadRecord, E>> + Send,
    threads: usize,
    decoder: impl Fn() -> F + Sync,
    mut take: impl FnMut(D) -> Result<(), E>,
) -> Result<u64, E>
where
    D: Send,
    E: Send,
    F: FnMut(ReadRecord) -> Result<D, E>,
{
    let decoder = &decoder;
    std::thread::scope(|scope| {
        let (mut to_threads, mut from_threads) = (Vec::new(), Vec::new());
        for _ in 0..threads.max(1) {
            let (give, chunks) = sync_channel::<Result<Vec<ReadRecord>, E>>(QUEUED_CHUNKS);
            let (done, results) = sync_channel(QUEUED_CHUNKS);
            // Not joined: a panic in it is passed on by the scope.
            scope.spawn(move || {
                let mut decode = decoder();
                for chunk in chunks {
                    let decoded = chunk.and_then(|chunk| {
                        chunk
                            .into_iter()
                            .map(&mut decode)
                            .collect::<Result<Vec<D>, E>>()
                    });
                    if done.send(decoded).is_err() {
                        return;
                    }
                }
            });
            to_threads.push(give);
            from_threads.push(results);
        }
        scope.spawn(move || {
            let mut turn = to_threads.iter().cycle();
            // Nobody takes it any more: there was an error.
            let mut give = |chunk| turn.next().is_some_and(|thread| thread.send(chunk).is_ok());
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            for record in source {
                match record {
                    Ok(record) => {
                        bytes += RECORD_BYTES + record.context.len() + record.payload.len();
                        chunk.push(record);
                    }
                    Err(error) => {
                        if give(Ok(std::mem::take(&mut chunk))) {
                            give(Err(error));
                        }
                        return;
                    }
                }
                if bytes >= CHUNK_BYTES {
                    bytes = 0;
                    if !give(Ok(std::mem::take(&mut chunk))) {
                        return;
                    }
                }
            }
            give(Ok(chunk));
        });
        let mut records = 0;
        for results in from_threads.iter().cycle() {
            // Chunks go round, so the first thread that has none left is the end.
            let Ok(decoded) = results.recv() else { break };
            for one in decoded? {
                records += 1;
                take(one)?;
            }
        }
        Ok(records)
    })
}

#[cfg(test)]
mod tests {
    use penstock_model::{LaneId, Payload, Position};

    use super::*;

    fn record(number: u64, bytes: usize) -> ReadRecord {
        ReadRecord {
            lane: LaneId::from_bytes([1; 16]),
            position: Position::new(number),
            context: vec![1; 10],
            payload: Payload::new(vec![2; bytes]),
        }
    }

    /// Small records and large ones, so that chunks differ in length.
    fn records(count: u64) -> impl Iterator<Item = Result<ReadRecord, String>> + Send {
        (1..=count).map(|number| Ok(record(number, if number % 7 == 0 { 200_000 } else { 900 })))
    }

    fn positions(
        source: impl Iterator<Item = Result<ReadRecord, String>> + Send,
        threads: usize,
        (bad, refused): (u64, u64),
    ) -> (Result<u64, String>, Vec<u64>) {
        let mut taken = Vec::new();
        let decoder = || {
            move |record: ReadRecord| {
                let position = record.position.get();
                if position == bad {
                    return Err(format!("record {position}"));
                }
                // Some take longer, so that threads overtake each other.
                let waste = (0..position % 5 * 1_000).fold(position, |sum, one| sum ^ (one << 1));
                Ok((position, waste))
            }
        };
        let result = decode_in_order(source, threads, decoder, |(position, _)| {
            taken.push(position);
            if position == refused {
                return Err(format!("refused {position}"));
            }
            Ok(())
        });
        (result, taken)
    }

    #[test]
    fn results_come_in_the_order_of_the_records() {
        for threads in [1, 2, 5] {
            for count in [0, 1, 2_000] {
                let (result, taken) = positions(records(count), threads, (u64::MAX, u64::MAX));
                assert_eq!(result, Ok(count));
                assert_eq!(taken, (1..=count).collect::<Vec<u64>>());
            }
        }
    }

    #[test]
    fn an_error_ends_it_behind_what_came_before() {
        let (result, taken) = positions(records(3_000), 2, (1_500, u64::MAX));
        assert_eq!(result, Err("record 1500".to_owned()));
        // Of its chunk nothing is taken, and nothing behind it.
        assert!(
            taken
                .iter()
                .zip(1..)
                .all(|(taken, number)| *taken == number)
        );
        assert!(taken.len() < 1_500);
        let source = records(100)
            .chain([Err("the disk".to_owned())])
            .chain(records(5));
        let (result, taken) = positions(source, 3, (u64::MAX, u64::MAX));
        assert_eq!(result, Err("the disk".to_owned()));
        assert_eq!(taken, (1..=100).collect::<Vec<u64>>());
        let (result, taken) = positions(records(3_000), 3, (u64::MAX, 1_700));
        assert_eq!(result, Err("refused 1700".to_owned()));
        assert_eq!(taken, (1..=1_700).collect::<Vec<u64>>());
    }
}

//! What a run measured, as one line of JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use penstock_model::Clock;

/// Counts and latencies of one run.
#[derive(Debug)]
pub(crate) struct Report {
    started_nanos: u64,
    finished_nanos: u64,
    pub(crate) requests: u64,
    pub(crate) events: u64,
    /// Bytes of heads and bodies sent with acknowledged requests.
    pub(crate) bytes: u64,
    /// Microseconds from the intended start of each acknowledged request to its answer.
    latencies_us: Vec<u32>,
    /// What else happened: HTTP status, gRPC status or a kind of failure → requests.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Open loop: requests that were due but never sent, because the time was over.
    pub(crate) unsent: u64,
}

impl Report {
    pub(crate) fn start(clock: &dyn Clock) -> Self {
        let now = clock.monotonic_nanos();
        Self {
            started_nanos: now,
            finished_nanos: now,
            requests: 0,
            events: 0,
            bytes: 0,
            latencies_us: Vec::with_capacity(1 << 20),
            errors: BTreeMap::new(),
            unsent: 0,
        }
    }

    pub(crate) fn acknowledged(&mut self, events: usize, bytes: usize, due: u64, now: u64) {
        self.requests += 1;
        self.events += events as u64;
        self.bytes += bytes as u64;
        let micros = now.saturating_sub(due) / 1000;
        self.latencies_us
            .push(u32::try_from(micros).unwrap_or(u32::MAX));
        self.finished_nanos = now;
    }

    pub(crate) fn failed(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// Requests answered or failed.
    pub(crate) fn ended(&self) -> u64 {
        self.requests + self.errors.values().sum::<u64>()
    }

    /// One line: times in milliseconds, `seconds` from the start to the last acknowledgement.
    pub(crate) fn into_json(mut self) -> String {
        self.latencies_us.sort_unstable();
        let seconds = Duration::from_nanos(self.finished_nanos - self.started_nanos).as_secs_f64();
        let mut line = format!(
            r#"{{"requests":{},"events":{},"bytes":{},"seconds":{seconds:.6},"unsent":{}"#,
            self.requests, self.events, self.bytes, self.unsent
        );
        for (name, share) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
            let micros = quantile(&self.latencies_us, share);
            put(
                &mut line,
                format_args!(r#","{name}_ms":{:.3}"#, f64::from(micros) / 1000.0),
            );
        }
        line.push_str(r#","errors":{"#);
        for (index, (kind, count)) in self.errors.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            put(&mut line, format_args!(r#"{comma}"{kind}":{count}"#));
        }
        line.push_str("}}\n");
        line
    }
}

/// The smallest value that at least `per_mille` of the sorted values do not exceed.
fn quantile(sorted: &[u32], per_mille: usize) -> u32 {
    let rank = (sorted.len() * per_mille).div_ceil(1000).max(1) - 1;
    sorted.get(rank).copied().unwrap_or(0)
}

#[expect(clippy::expect_used, reason = "writing to a String cannot fail")]
fn put(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<u32> = (1..=1000).collect();
        assert_eq!(quantile(&sorted, 500), 500);
        assert_eq!(quantile(&sorted, 999), 999);
        assert_eq!(quantile(&[7], 999), 7);
        assert_eq!(quantile(&[], 500), 0);
    }
}

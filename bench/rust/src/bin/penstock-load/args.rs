//! The command line: `--name value` pairs, each with a bound.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How the load speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `POST /batch/` over HTTP/1.1 with keep-alive.
    Http,
    /// Unary `penstock.v1.IngestService/Append` over HTTP/2 without TLS.
    Grpc,
}

/// One run of the load.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) protocol: Protocol,
    pub(crate) target: SocketAddr,
    /// HTTP: requests in flight, one per connection. gRPC: connections with `streams` each.
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) events: usize,
    pub(crate) gzip: bool,
    /// Compressed bodies made before the run; each is sent once.
    pub(crate) pool: usize,
    pub(crate) duration: Duration,
    /// Requests a second, started at even distances whether or not answers have come (open loop);
    /// None: the next request follows the answer (closed loop).
    pub(crate) rate: Option<u32>,
    /// Upper bound of requests.
    pub(crate) max_requests: usize,
    /// Space of the event ids: another one for each run against the same data.
    pub(crate) id_space: u16,
    pub(crate) seed: u64,
    /// The core that this process binds itself to once the bodies are made.
    pub(crate) core: Option<usize>,
    /// Print `prepared` and wait for a line on standard input before the first request.
    pub(crate) handshake: bool,
    /// Let answers pass whose body is not penstock's: for the peers.
    pub(crate) any_answer: bool,
}

/// Longest run: a benchmark that goes on for longer has been forgotten.
const MAX_SECONDS: f64 = 900.0;
/// Latencies are kept one by one, four bytes each: 80 MB.
const MAX_REQUESTS: usize = 20_000_000;
/// Enough for 64 bodies of 20 MiB.
const MAX_EVENTS: usize = 20_000;

impl Default for Args {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http,
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            connections: 64,
            streams: 1,
            events: 50,
            gzip: false,
            pool: 20_000,
            duration: Duration::from_secs(10),
            rate: None,
            max_requests: MAX_REQUESTS,
            id_space: 0,
            seed: 1,
            core: None,
            handshake: false,
            any_answer: false,
        }
    }
}

impl Args {
    /// Reads the words after the program's name. The error is a sentence for the user.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self::default();
        let mut words = words;
        while let Some(name) = words.next() {
            match name.as_str() {
                "--gzip" => args.gzip = true,
                "--handshake" => args.handshake = true,
                "--any-answer" => args.any_answer = true,
                _ => {
                    let value = words
                        .next()
                        .ok_or_else(|| format!("{name} needs a value"))?;
                    args.set(&name, &value)?;
                }
            }
        }
        args.check()?;
        Ok(args)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let seconds = || number::<f64>(name, value);
        match name {
            "--protocol" => {
                self.protocol = match value {
                    "http" => Protocol::Http,
                    "grpc" => Protocol::Grpc,
                    _ => return Err("--protocol is http or grpc".to_owned()),
                }
            }
            "--target" => self.target = number(name, value)?,
            "--connections" => self.connections = number(name, value)?,
            "--streams" => self.streams = number(name, value)?,
            "--events" => self.events = number(name, value)?,
            "--pool" => self.pool = number(name, value)?,
            "--seconds" => {
                self.duration = Duration::from_secs_f64(seconds()?.clamp(0.0, MAX_SECONDS));
            }
            "--rate" => self.rate = Some(number(name, value)?),
            "--max-requests" => self.max_requests = number(name, value)?,
            "--id-space" => self.id_space = number(name, value)?,
            "--seed" => self.seed = number(name, value)?,
            "--core" => self.core = Some(number(name, value)?),
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let bounds = [
            (
                self.target.ip().is_loopback(),
                "--target must be on loopback",
            ),
            (
                (1..=1024).contains(&self.connections),
                "--connections: 1 to 1024",
            ),
            ((1..=256).contains(&self.streams), "--streams: 1 to 256"),
            (
                (1..=MAX_EVENTS).contains(&self.events),
                "--events: 1 to 20000",
            ),
            (
                (1..=MAX_REQUESTS).contains(&self.max_requests),
                "--max-requests: 1 to 20000000",
            ),
            (
                self.rate.is_none_or(|rate| (1..=1_000_000).contains(&rate)),
                "--rate: 1 to 1000000",
            ),
            (self.id_space < 1024, "--id-space: 0 to 1023"),
        ];
        for (holds, text) in bounds {
            if !holds {
                return Err(text.to_owned());
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name} can't be {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_line_is_read() {
        let args = parse("--protocol grpc --target 127.0.0.1:9 --rate 5 --gzip").unwrap();
        assert_eq!(args.protocol, Protocol::Grpc);
        assert_eq!(args.rate, Some(5));
        assert!(args.gzip);
    }

    #[test]
    fn only_loopback_is_loaded() {
        assert!(parse("--target 127.0.0.2:80").is_ok());
        assert!(parse("--target 192.0.2.1:80").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--connections 0",
            "--events 20001",
            "--rate 0",
            "--what 1",
            "--events",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}

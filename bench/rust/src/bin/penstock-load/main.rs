//! `penstock-load`: offers requests to a server on loopback from one core, and measures the time
//! to the durable acknowledgement.
//!
//! Every event sent has an id of its own, or deduplication would make the server's work another
//! one. One line of JSON on standard output; exit 1 when nothing was acknowledged.

mod args;
mod grpc;
mod http;
mod report;
mod source;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use penstock_model::SystemClock;

use args::{Args, Protocol};
use report::Report;
use source::Source;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(text) => {
            say(&mut io::stderr(), &format!("penstock-load: {text}\n"));
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(report) => {
            let acknowledged = report.requests > 0;
            say(&mut io::stdout(), &report.into_json());
            if acknowledged {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            say(&mut io::stderr(), &format!("penstock-load: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<Report> {
    let lanes = args.connections
        * if args.protocol == Protocol::Grpc {
            args.streams
        } else {
            1
        };
    let source = Source::new(args, lanes);
    if let Some(core) = args.core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    if args.handshake {
        say(&mut io::stdout(), "prepared\n");
        io::stdin().lock().read_line(&mut String::new())?;
    }
    let clock = SystemClock::new();
    match args.protocol {
        Protocol::Http => http::run(args, source, &clock),
        Protocol::Grpc => grpc::run(args, source, clock),
    }
}

/// Writes `text`; if nobody reads any more, there is nobody to tell.
fn say(out: &mut dyn Write, text: &str) {
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

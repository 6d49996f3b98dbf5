//! The requests that arrive meanwhile.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use plumbline_load_tests::client::{Http, Targets, Transport};
use plumbline_load_tests::inputs::{self, InputSpec};
use plumbline_load_tests::load::{self, Plan, Report, Wait};
use plumbline_load_tests::request::Encoding;
use plumbline_load_tests::schedule::Arrivals;

use crate::Arguments;

/// The load ends by itself after this time, whatever happens.
const LONGEST: Duration = Duration::from_mins(30);

/// An open loop on threads of its own.
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    loads: Vec<(Encoding, JoinHandle<anyhow::Result<Report>>)>,
}

impl Background {
    /// Half of the rate over each of HTTP/1.1 and HTTP/2.
    pub(crate) fn start(arguments: &Arguments, targets: &Arc<Targets>, model: &str) -> anyhow::Result<Self> {
        let spec: InputSpec = "X:FP32:20".parse().map_err(anyhow::Error::msg)?;
        let stop = Arc::new(AtomicBool::new(false));
        let loads = [(Encoding::V2, Http::One), (Encoding::Grpc, Http::Two)]
            .into_iter()
            .map(|(encoding, http)| {
                let specs = std::slice::from_ref(&spec);
                let requests = inputs::requests(encoding, model, specs, None, &[1, 4, 16], 48, 1)?;
                let plan = Plan {
                    arrivals: Arrivals::Poisson(arguments.rate / 2.0),
                    connections: arguments.connections,
                    warm_up: Duration::ZERO,
                    duration: LONGEST,
                    // The servers are on the same CPUs, and latency is not what this is about.
                    wait: Wait::Sleep,
                    stop: Arc::clone(&stop),
                    ..Plan::new(Arc::clone(targets), Transport::plain(http), requests)
                };
                Ok((encoding, std::thread::spawn(move || load::run(&plan))))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { stop, loads })
    }

    /// Ends the load; its reports in words, and whether nothing failed.
    pub(crate) fn end(mut self) -> anyhow::Result<(String, bool)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut text, mut good) = (String::new(), true);
        for (encoding, load) in self.loads.drain(..) {
            let report = load
                .join()
                .map_err(|_| anyhow::anyhow!("a load's thread panicked"))??;
            good &= report.tally.failed() == 0 && report.answers() > 0;
            let _never = writeln!(
                text,
                "{}: {} requests, {} failed, {} connections made again, p50 {:.2} ms, p99 {:.2} ms, most {:.1} ms",
                encoding.label(),
                report.answers() + report.tally.failed(),
                report.tally.failed(),
                report.tally.reconnects,
                report.micros(0.5) / 1e3,
                report.micros(0.99) / 1e3,
                report.tally.ok.max() as f64 / 1e6,
            );
            for (fault, count) in &report.tally.faults {
                let _never = writeln!(text, "  {count} {fault}");
            }
            for example in &report.tally.examples {
                let _never = writeln!(text, "  {example}");
            }
        }
        Ok((text, good))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Also when what it ran beside went wrong.
        self.stop.store(true, Ordering::Relaxed);
        for (_, load) in self.loads.drain(..) {
            let _told_elsewhere = load.join();
        }
    }
}

//! Requests that arrive while something changes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Http, Targets, Transport};
use crate::inputs::{self, InputSpec};
use crate::load::{self, Plan, Report, Wait};
use crate::request::Encoding;
use crate::schedule::Arrivals;

/// The load ends by itself after this time, whatever happens.
const LONGEST: Duration = Duration::from_mins(30);

/// Open loops, each on a thread of its own.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    loads: Vec<(&'static str, JoinHandle<anyhow::Result<Report>>)>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// In words, a line for each load.
    pub text: String,
    /// Requests that were sent.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Every load was answered, and nothing failed.
    pub good: bool,
}

impl Background {
    /// Half of the `rate` over each of HTTP/1.1 and gRPC.
    ///
    /// # Errors
    /// When a request cannot be made.
    pub fn start(targets: &Arc<Targets>, model: &str, rate: f64, connections: usize) -> anyhow::Result<Self> {
        let spec: InputSpec = "X:FP32:20".parse().map_err(anyhow::Error::msg)?;
        let plans = [(Encoding::V2, Http::One), (Encoding::Grpc, Http::Two)]
            .into_iter()
            .map(|(encoding, http)| {
                let specs = std::slice::from_ref(&spec);
                let requests = inputs::requests(encoding, model, specs, None, &[1, 4, 16], 48, 1)?;
                let plan = Plan {
                    arrivals: Arrivals::Poisson(rate / 2.0),
                    connections,
                    ..Plan::new(Arc::clone(targets), Transport::plain(http), requests)
                };
                Ok((encoding.label(), plan))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self::of(plans))
    }

    /// These loads, open ones, each under its name, until [`Self::end`].
    pub fn of(plans: Vec<(&'static str, Plan)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(name, plan)| {
            let plan = Plan {
                warm_up: Duration::ZERO,
                duration: LONGEST,
                // The servers are on the same CPUs, and latency is not what this is about.
                wait: Wait::Sleep,
                stop: Arc::clone(&stop),
                ..plan
            };
            (name, std::thread::spawn(move || load::run(&plan)))
        };
        let loads = plans.into_iter().map(start).collect();
        Self { stop, loads }
    }

    /// Ends the loads.
    ///
    /// # Errors
    /// When one could not begin.
    pub fn end(mut self) -> anyhow::Result<Ended> {
        self.stop.store(true, Ordering::Relaxed);
        let mut ended = Ended {
            text: String::new(),
            requests: 0,
            failed: 0,
            good: true,
        };
        for (name, load) in self.loads.drain(..) {
            let report = load
                .join()
                .map_err(|_| anyhow::anyhow!("a load's thread panicked"))??;
            let (failed, text) = (report.tally.failed(), &mut ended.text);
            ended.good &= failed == 0 && report.answers() > 0;
            ended.failed += failed;
            ended.requests += report.answers() + failed;
            let _never = writeln!(
                text,
                "{name}: {} requests, {failed} failed, {} connections made again, p50 {:.2} ms, p99 {:.2} ms, most {:.1} ms",
                report.answers() + failed,
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
        Ok(ended)
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

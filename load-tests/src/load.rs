//! A load: connections, when requests are due, for how long; and what it came to.

mod run;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::client::{Targets, Transport};
use crate::process;
use crate::request::Request;
use crate::schedule::Arrivals;
use crate::tally::{Fault, Tally};
use crate::verdict::{Expect, FirstAnswers};

/// What to do to a server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where requests go.
    pub targets: Arc<Targets>,
    /// How connections are made.
    pub transport: Transport,
    /// Sent in turn.
    pub requests: Arc<[Request]>,
    /// When requests are due.
    pub arrivals: Arrivals,
    /// Connections, each with one request in flight: the bound on what the server has at once.
    pub connections: usize,
    /// Threads of the generator.
    pub threads: usize,
    /// Time at the start whose answers are not recorded.
    pub warm_up: Duration,
    /// Recorded time.
    pub duration: Duration,
    /// Ends the run after this many requests, if that is earlier.
    pub count: Option<u64>,
    /// How long after its end the run waits for answers; those that do not come have failed.
    pub timeout: Duration,
    /// Of random arrivals.
    pub seed: u64,
    /// What answers are held to.
    pub expect: Expect,
    /// Processes whose CPU time is told.
    pub processes: Vec<u32>,
    /// How an open loop waits for the next request.
    pub wait: Wait,
    /// Ends an open loop earlier, from outside.
    pub stop: Arc<AtomicBool>,
}

impl Plan {
    /// A closed loop of 16 connections for 2 s after 0.3 s.
    pub fn new(targets: Arc<Targets>, transport: Transport, requests: Vec<Request>) -> Self {
        Self {
            targets,
            transport,
            requests: requests.into(),
            arrivals: Arrivals::Closed,
            connections: 16,
            threads: 1,
            warm_up: Duration::from_millis(300),
            duration: Duration::from_secs(2),
            count: None,
            timeout: Duration::from_secs(10),
            seed: 1,
            expect: Expect::default(),
            processes: Vec::new(),
            wait: Wait::Spin,
            stop: Arc::default(),
        }
    }
}

/// How an open loop waits for the time at which the next request is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Looks for answers all the time: in time to some microseconds, at the price of a CPU.
    Spin,
    /// Sleeps: up to two milliseconds late, for a load that shares its CPUs with the server.
    Sleep,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Counts and latencies.
    pub tally: Tally,
    /// Recorded time, up to the last answer.
    pub elapsed: Duration,
    /// CPU time of the plan's processes in it.
    pub cpu: Duration,
    /// CPU time of this process in it: at a whole core per thread, the generator is what was measured.
    pub generator_cpu: Duration,
    /// Share of the machine's CPU time that its hypervisor kept in it.
    pub steal: f64,
    threads: usize,
    rate: Option<f64>,
}

/// Carries out the plan.
///
/// # Errors
/// When it cannot begin: a plan without requests or connections, or a server that does not answer a connection.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    ensure!(!plan.requests.is_empty(), "a load needs requests");
    ensure!(
        plan.threads > 0 && plan.connections >= plan.threads,
        "a load needs at least one thread, and a connection for each"
    );
    if let Some(rate) = plan.arrivals.rate() {
        ensure!(rate.is_finite() && rate > 0.0, "{rate} requests a second");
    }
    let first = Arc::new(FirstAnswers::new(plan.requests.len()));
    let ready = std::sync::Barrier::new(plan.threads + 1);
    let start = std::sync::OnceLock::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let (first, ready, start) = (&first, &ready, &start);
                scope.spawn(move || run::thread(plan, thread, first, ready, start))
            })
            .collect();
        // Connections first, so that nobody waits for another's.
        ready.wait();
        let began = Instant::now();
        let _set_once = start.set(began);
        ready.wait();
        std::thread::sleep((began + plan.warm_up).saturating_duration_since(Instant::now()));
        let before = Usage::now(plan)?;
        // The CPU time of what ends before its thread is joined is counted up to here: a few scheduling steps more.
        let mut tally = Tally::default();
        for thread in threads {
            tally.add(
                &thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a load's thread panicked"))??,
            );
        }
        let after = Usage::now(plan)?;
        let recording = began + plan.warm_up;
        let elapsed = tally.last.map_or(plan.duration, |last| {
            last.saturating_duration_since(recording)
                .max(Duration::from_micros(1))
        });
        Ok(Report {
            elapsed,
            cpu: after.processes.saturating_sub(before.processes),
            generator_cpu: after.own.saturating_sub(before.own),
            steal: after.machine.steal_since(before.machine),
            threads: plan.threads,
            rate: plan.arrivals.rate(),
            tally,
        })
    })
}

struct Usage {
    processes: Duration,
    own: Duration,
    machine: process::MachineTime,
}

impl Usage {
    fn now(plan: &Plan) -> anyhow::Result<Self> {
        Ok(Self {
            processes: plan
                .processes
                .iter()
                .map(|pid| process::cpu(*pid))
                .sum::<Result<_, _>>()?,
            own: process::cpu_in_ticks(std::process::id()).context("own CPU time")?,
            machine: process::MachineTime::now()?,
        })
    }
}

impl Report {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.tally.ok.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Recorded answers, good or refused.
    pub fn answers(&self) -> u64 {
        self.tally.ok.len() + self.tally.refused.len()
    }

    /// CPU time of the plan's processes for each recorded answer.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answers().max(1) as f64
    }

    /// Latency of good answers at a quantile, microseconds.
    pub fn micros(&self, quantile: f64) -> f64 {
        self.tally.ok.value_at_quantile(quantile) as f64 / 1e3
    }

    /// What makes the figures those of the generator and not of the server, if anything.
    pub fn doubt(&self) -> Option<String> {
        let busy = self.generator_cpu.as_secs_f64() / self.elapsed.as_secs_f64() / self.threads as f64;
        let late = self.tally.late as f64 / self.tally.due.max(1) as f64;
        let unsent = self.tally.faults.get(&Fault::Unsent).copied().unwrap_or(0);
        if unsent > 0 {
            return Some(format!(
                "{unsent} requests were due and never sent: more connections, or a lower rate"
            ));
        }
        if late > 0.01 {
            return Some(format!(
                "the generator sent {:.1} % of the requests more than 1 ms late (the latest by {:.1?}): it could not keep \
                 the schedule",
                late * 100.0,
                self.tally.latest
            ));
        }
        // An open loop spins until the next request is due, whatever the load.
        (self.rate.is_none() && busy > 0.97).then(|| {
            format!(
                "the generator's threads were {:.0} % busy: it may be the limit",
                busy * 100.0
            )
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let latency = |histogram: &hdrhistogram::Histogram<u64>| {
            let micros = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
            json!({
                "count": histogram.len(), "mean_us": histogram.mean() / 1e3, "p50_us": micros(0.5), "p90_us": micros(0.9),
                "p99_us": micros(0.99), "p999_us": micros(0.999), "max_us": histogram.max() as f64 / 1e3,
            })
        };
        let faults: serde_json::Map<_, _> = self
            .tally
            .faults
            .iter()
            .map(|(fault, count)| (fault.to_string(), json!(count)))
            .collect();
        json!({
            "seconds": self.elapsed.as_secs_f64(),
            "requests_per_second": self.rate(),
            "wanted_per_second": self.rate,
            "ok": latency(&self.tally.ok),
            "refused": latency(&self.tally.refused),
            "refused_without_retry_after": self.tally.refused_without_retry_after,
            "failed": self.tally.failed(),
            "faults": faults,
            "examples": self.tally.examples,
            "due": self.tally.due,
            "late": self.tally.late,
            "latest_us": self.tally.latest.as_secs_f64() * 1e6,
            "waited_for_a_connection": self.tally.waited,
            "reconnects": self.tally.reconnects,
            "cpu_us_per_request": self.cpu_micros(),
            "generator_cores": self.generator_cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
            "steal": self.steal,
            "doubt": self.doubt(),
        })
    }
}

/// For people.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tally = &self.tally;
        let quantiles = |f: &mut std::fmt::Formatter<'_>, name, histogram: &hdrhistogram::Histogram<u64>| {
            write!(f, "{name:<10}{:>10}", histogram.len())?;
            for (quantile, value) in [
                ("p50", histogram.value_at_quantile(0.5)),
                ("p90", histogram.value_at_quantile(0.9)),
                ("p99", histogram.value_at_quantile(0.99)),
                ("p99.9", histogram.value_at_quantile(0.999)),
                ("max", histogram.max()),
            ] {
                write!(f, "   {quantile} {:.1?}", Duration::from_nanos(value))?;
            }
            writeln!(f)
        };
        write!(f, "rate      {:>10.0} good answers/s", self.rate())?;
        match self.rate {
            Some(rate) => writeln!(f, ", {rate:.0} requests/s were due")?,
            None => writeln!(f)?,
        }
        quantiles(f, "ok", &tally.ok)?;
        if !tally.refused.is_empty() {
            quantiles(f, "refused", &tally.refused)?;
            if tally.refused_without_retry_after > 0 {
                writeln!(
                    f,
                    "          {:>10} of them without Retry-After",
                    tally.refused_without_retry_after
                )?;
            }
        }
        writeln!(f, "failed    {:>10}", tally.failed())?;
        for (fault, count) in &tally.faults {
            writeln!(f, "          {count:>10} {fault}")?;
        }
        for text in &tally.examples {
            writeln!(f, "          {text}")?;
        }
        if self.rate.is_some() {
            writeln!(
                f,
                "schedule  {:>10} due, {} sent late by the generator (at most {:.1?}), {} waited for a connection",
                tally.due, tally.late, tally.latest, tally.waited
            )?;
        }
        if !self.cpu.is_zero() {
            writeln!(f, "CPU       {:>10.1} us a request (servers)", self.cpu_micros())?;
        }
        writeln!(
            f,
            "machine   {:>10.2} cores for the generator, {:.3} of its CPU time stolen by the hypervisor",
            self.generator_cpu.as_secs_f64() / self.elapsed.as_secs_f64(),
            self.steal
        )?;
        if let Some(doubt) = self.doubt() {
            writeln!(f, "DOUBT     {doubt}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! One measurement, and all of them by cell, load, contender and round.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use plumbline_load_tests::client::{Targets, Transport};
use plumbline_load_tests::load::{self, Plan};
use plumbline_load_tests::process::{MachineTime, cpu};
use plumbline_load_tests::schedule::Arrivals;
use plumbline_load_tests::table::median;
use plumbline_load_tests::traffic::{Cell, Traffic};

use crate::contender::{Contender, Running};

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(200);

/// Connections of an open loop: so many that a request hardly ever waits for one.
const OPEN_CONNECTIONS: usize = 64;

/// A measurement that the hypervisor disturbed is repeated so often.
const TRIES: usize = 3;

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// As fast as they are answered, over so many connections.
    Closed(usize),
    /// At this percentage of what the slowest contender manages, at random times.
    Open(u32),
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Closed(connections) => write!(f, "saturated, {connections} connections"),
            Load::Open(percent) => write!(f, "{percent} % of the slowest's peak"),
        }
    }
}

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Answers a second.
    pub(crate) rate: f64,
    /// CPU time of the contender's processes a request, microseconds; 0 for nobody.
    pub(crate) cpu: f64,
    /// Latency, microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Rows observed among those that were observed or skipped; NaN without an analysis.
    pub(crate) observed: f64,
    /// Share of the machine's CPU time that its hypervisor kept.
    pub(crate) steal: f64,
    /// CPU time that others used, in CPUs.
    pub(crate) others: f64,
    /// The generator may have been the limit.
    pub(crate) doubtful: bool,
}

/// Which figure of a measurement.
pub(crate) type Pick = fn(&Sample) -> f64;

/// How long, and what disturbs it.
pub(crate) struct Care {
    pub(crate) seconds: f64,
    pub(crate) most_steal: f64,
    /// The constant-answer server, whose CPU time is nobody else's.
    pub(crate) upstream: u32,
}

impl Care {
    /// Measures; again, when more than `most_steal` was stolen. `None` when it was, each time.
    pub(crate) fn measure(
        &self,
        running: &Running,
        traffic: &Traffic,
        arrivals: Arrivals,
        seed: u64,
        connections: usize,
    ) -> anyhow::Result<Option<Sample>> {
        for _ in 0..TRIES {
            let sample = self.once(running, traffic, arrivals, seed, connections)?;
            if sample.steal <= self.most_steal {
                return Ok(Some(sample));
            }
        }
        Ok(None)
    }

    fn once(
        &self,
        running: &Running,
        traffic: &Traffic,
        arrivals: Arrivals,
        seed: u64,
        connections: usize,
    ) -> anyhow::Result<Sample> {
        let http = traffic.cell.http();
        let plan = Plan {
            arrivals,
            connections,
            seed,
            warm_up: WARM_UP,
            duration: Duration::try_from_secs_f64(self.seconds)?,
            processes: running.pid().into_iter().collect(),
            ..Plan::new(
                Targets::new(vec![running.address(http)]),
                Transport::plain(http),
                traffic.requests.clone(),
            )
        };
        let ours = || -> anyhow::Result<Duration> {
            let pids = [Some(std::process::id()), Some(self.upstream), running.pid()];
            pids.into_iter().flatten().map(cpu).sum()
        };
        let (before, used, rows) = (MachineTime::now()?, ours()?, running.rows()?);
        let report = load::run(&plan)?;
        let (after, used, rows) = (MachineTime::now()?, ours()?.saturating_sub(used), {
            let (observed, skipped) = running.rows()?;
            (observed - rows.0, skipped - rows.1)
        });
        ensure!(
            report.tally.failed() == 0,
            "requests failed:\n{report}\n{}",
            running.log()
        );
        let whole = (WARM_UP + report.elapsed).as_secs_f64();
        Ok(Sample {
            rate: report.rate(),
            cpu: report.cpu_micros(),
            p50: report.micros(0.5),
            p99: report.micros(0.99),
            observed: rows.0 / (rows.0 + rows.1),
            steal: report.steal,
            others: after.used_since(before).saturating_sub(used).as_secs_f64() / whole,
            doubtful: report.doubt().is_some(),
        })
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Figures {
    samples: BTreeMap<(Cell, Load, Contender), Vec<Option<Sample>>>,
    /// Requests a second of the open loops.
    pub(crate) rates: BTreeMap<(Cell, Load), f64>,
}

impl Figures {
    /// Adds the next round's sample; `None` for one that was stolen.
    pub(crate) fn add(&mut self, cell: Cell, load: Load, contender: Contender, sample: Option<Sample>) {
        self.samples
            .entry((cell, load, contender))
            .or_default()
            .push(sample);
    }

    /// Whether anything was measured there.
    pub(crate) fn has(&self, cell: Cell, load: Load, contender: Contender) -> bool {
        self.samples.contains_key(&(cell, load, contender))
    }

    /// What `pick` takes from each of these contenders' samples, of the rounds in which all of them have one.
    pub(crate) fn together<const N: usize>(
        &self,
        cell: Cell,
        load: Load,
        contenders: [Contender; N],
        pick: Pick,
    ) -> [Vec<f64>; N] {
        let none = Vec::new();
        let samples = contenders.map(|contender| self.samples.get(&(cell, load, contender)).unwrap_or(&none));
        let rounds = samples.iter().map(|samples| samples.len()).min().unwrap_or(0);
        let whole: Vec<usize> = (0..rounds)
            .filter(|round| samples.iter().all(|samples| samples[*round].is_some()))
            .collect();
        samples.map(|samples| {
            whole
                .iter()
                .filter_map(|round| samples[*round].as_ref())
                .map(pick)
                .collect()
        })
    }

    /// Median of what `pick` takes from a contender's samples.
    pub(crate) fn median(&self, cell: Cell, load: Load, contender: Contender, pick: Pick) -> f64 {
        let [values] = self.together(cell, load, [contender], pick);
        median(&values)
    }

    /// What a contender adds to the direct answer in each round, by `pick`; beside it what another adds.
    pub(crate) fn added(
        &self,
        cell: Cell,
        load: Load,
        [one, other]: [Contender; 2],
        pick: Pick,
    ) -> [Vec<f64>; 2] {
        let [direct, one, other] = self.together(cell, load, [Contender::Direct, one, other], pick);
        [one, other].map(|through| {
            through
                .iter()
                .zip(&direct)
                .map(|(through, direct)| through - direct)
                .collect()
        })
    }

    /// All samples, and how many were stolen.
    pub(crate) fn all(&self) -> (Vec<&Sample>, usize) {
        let all = || self.samples.values().flatten();
        (
            all().flatten().collect(),
            all().filter(|sample| sample.is_none()).count(),
        )
    }
}

/// Requests a second, and connections, of `load` when the slowest contender manages `peak`.
pub(crate) fn arrivals(load: Load, peak: f64) -> (Arrivals, usize) {
    match load {
        Load::Closed(connections) => (Arrivals::Closed, connections),
        Load::Open(percent) => (
            Arrivals::Poisson(peak * f64::from(percent) / 100.0),
            OPEN_CONNECTIONS,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(p50: f64) -> Sample {
        Sample {
            rate: 1.0,
            cpu: 1.0,
            p50,
            p99: p50 * 2.0,
            observed: 1.0,
            steal: 0.0,
            others: 0.0,
            doubtful: false,
        }
    }

    #[test]
    fn only_rounds_that_all_have_are_compared() {
        let (cell, load) = (Cell::SmallJson, Load::Open(50));
        let mut figures = Figures::default();
        let mut add = |contender, samples: [Option<f64>; 3]| {
            for p50 in samples {
                figures.add(cell, load, contender, p50.map(sample));
            }
        };
        add(Contender::Direct, [Some(10.0), Some(20.0), Some(30.0)]);
        add(Contender::Nginx, [Some(15.0), None, Some(37.0)]);
        add(Contender::On, [Some(14.0), Some(99.0), Some(36.0)]);
        let added = figures.added(cell, load, [Contender::On, Contender::Nginx], |sample| sample.p50);
        assert_eq!(added, [vec![4.0, 6.0], vec![5.0, 7.0]]);
        let p99 = |sample: &Sample| sample.p99;
        assert_eq!(figures.median(cell, load, Contender::Direct, p99), 40.0);
        assert!(figures.median(cell, load, Contender::Off, p99).is_nan());
        let (samples, stolen) = figures.all();
        assert_eq!((samples.len(), stolen), (8, 1));
    }

    #[test]
    fn an_open_loop_is_a_share_of_the_peak() {
        let (arrivals, connections) = arrivals(Load::Open(25), 8_000.0);
        assert_eq!(
            (arrivals, connections),
            (Arrivals::Poisson(2_000.0), OPEN_CONNECTIONS)
        );
    }
}

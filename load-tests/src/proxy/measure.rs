//! One measurement, and all of them by cell, load, contender and round.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Contender;
use crate::client::{Targets, Transport};
use crate::load::{self, Plan};
use crate::process::{MachineTime, cpu};
use crate::schedule::Arrivals;
use crate::table::median;
use crate::traffic::{Cell, Traffic};
use anyhow::ensure;

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(200);

/// Connections of an open loop: so many that a request hardly ever waits for one.
const OPEN_CONNECTIONS: usize = 64;

/// A measurement that the hypervisor disturbed is repeated so often.
const TRIES: usize = 3;

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
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
pub struct Sample {
    /// Answers a second.
    pub rate: f64,
    /// CPU time of the contender's processes a request, microseconds; 0 for nobody.
    pub cpu: f64,
    /// Latency, microseconds: its median.
    pub p50: f64,
    /// Its 99 % quantile.
    pub p99: f64,
    /// Its 99.9 % quantile.
    pub p999: f64,
    /// Rows observed among those that were observed or skipped; NaN without an analysis.
    pub observed: f64,
    /// Share of the machine's CPU time that its hypervisor kept.
    pub steal: f64,
    /// CPU time that others used, in CPUs.
    pub others: f64,
    /// The generator may have been the limit.
    pub doubtful: bool,
}

/// Which figure of a measurement.
pub type Pick = fn(&Sample) -> f64;

/// How long, and what disturbs it.
#[derive(Clone, Debug)]
pub struct Care {
    /// Seconds of a measurement.
    pub seconds: f64,
    /// Share of the machine's CPU time that its hypervisor may keep.
    pub most_steal: f64,
    /// The constant-answer servers, whose CPU time is nobody else's.
    pub upstreams: Vec<u32>,
}

impl Care {
    /// Measures; again, when more than `most_steal` was stolen. `None` when it was, each time.
    ///
    /// # Errors
    /// When a request fails, or a process is gone.
    pub fn measure(
        &self,
        running: &impl Contender,
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
        running: &impl Contender,
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
                Targets::new(running.addresses(traffic.cell)),
                Transport::plain(http),
                traffic.requests.clone(),
            )
        };
        let ours = || -> anyhow::Result<Duration> {
            let pids = [std::process::id()].into_iter().chain(running.pid());
            pids.chain(self.upstreams.iter().copied()).map(cpu).sum()
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
            p999: report.micros(0.999),
            observed: rows.0 / (rows.0 + rows.1),
            steal: report.steal,
            others: after.used_since(before).saturating_sub(used).as_secs_f64() / whole,
            doubtful: report.doubt().is_some(),
        })
    }
}

/// Everything that was measured, by the contenders' names `C`.
#[derive(Clone, Debug)]
pub struct Figures<C> {
    samples: BTreeMap<(Cell, Load, C), Vec<Option<Sample>>>,
    /// Requests a second of the open loops.
    pub rates: BTreeMap<(Cell, Load), f64>,
}

impl<C: Copy + Ord> Default for Figures<C> {
    fn default() -> Self {
        Self {
            samples: BTreeMap::new(),
            rates: BTreeMap::new(),
        }
    }
}

impl<C: Copy + Ord> Figures<C> {
    /// Adds the next round's sample; `None` for one that was stolen.
    pub fn add(&mut self, cell: Cell, load: Load, contender: C, sample: Option<Sample>) {
        self.samples
            .entry((cell, load, contender))
            .or_default()
            .push(sample);
    }

    /// Whether anything was measured there.
    pub fn has(&self, cell: Cell, load: Load, contender: C) -> bool {
        self.samples.contains_key(&(cell, load, contender))
    }

    /// What `pick` takes from each of these contenders' samples, of the rounds in which all of them have one.
    pub fn together<const N: usize>(
        &self,
        cell: Cell,
        load: Load,
        contenders: [C; N],
        pick: Pick,
    ) -> [Vec<f64>; N] {
        let whole = self.rounds_of(cell, load, &contenders);
        contenders.map(|contender| self.picked(cell, load, contender, &whole, pick))
    }

    /// The rounds in which all of them have a sample.
    fn rounds_of(&self, cell: Cell, load: Load, contenders: &[C]) -> Vec<usize> {
        let samples = || contenders.iter().map(|contender| self.of(cell, load, *contender));
        let rounds = samples().map(<[_]>::len).min().unwrap_or(0);
        (0..rounds)
            .filter(|round| samples().all(|samples| samples[*round].is_some()))
            .collect()
    }

    fn picked(&self, cell: Cell, load: Load, contender: C, rounds: &[usize], pick: Pick) -> Vec<f64> {
        let samples = self.of(cell, load, contender);
        rounds
            .iter()
            .filter_map(|round| samples[*round].as_ref())
            .map(pick)
            .collect()
    }

    fn of(&self, cell: Cell, load: Load, contender: C) -> &[Option<Sample>] {
        self.samples
            .get(&(cell, load, contender))
            .map_or(&[], Vec::as_slice)
    }

    /// Median of what `pick` takes from a contender's samples.
    pub fn median(&self, cell: Cell, load: Load, contender: C, pick: Pick) -> f64 {
        let [values] = self.together(cell, load, [contender], pick);
        median(&values)
    }

    /// What each of these adds in each round, by `pick`, to what `direct` has; of the rounds in which all have a sample.
    pub fn added<const N: usize>(
        &self,
        cell: Cell,
        load: Load,
        direct: C,
        contenders: [C; N],
        pick: Pick,
    ) -> [Vec<f64>; N] {
        let whole = self.rounds_of(cell, load, &[&contenders[..], &[direct]].concat());
        let at = |contender| self.picked(cell, load, contender, &whole, pick);
        let direct = at(direct);
        contenders.map(|contender| {
            let through = at(contender);
            through
                .iter()
                .zip(&direct)
                .map(|(through, direct)| through - direct)
                .collect()
        })
    }

    /// All samples, and how many were stolen.
    pub fn all(&self) -> (Vec<&Sample>, usize) {
        let all = || self.samples.values().flatten();
        (
            all().flatten().collect(),
            all().filter(|sample| sample.is_none()).count(),
        )
    }
}

/// Requests a second, and connections, of `load` when the slowest contender manages `peak`.
pub(super) fn arrivals(load: Load, peak: f64) -> (Arrivals, usize) {
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

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Who {
        Direct,
        Nginx,
        On,
        Off,
    }

    fn sample(p50: f64) -> Sample {
        Sample {
            rate: 1.0,
            cpu: 1.0,
            p50,
            p99: p50 * 2.0,
            p999: p50 * 3.0,
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
        add(Who::Direct, [Some(10.0), Some(20.0), Some(30.0)]);
        add(Who::Nginx, [Some(15.0), None, Some(37.0)]);
        add(Who::On, [Some(14.0), Some(99.0), Some(36.0)]);
        let added = figures.added(cell, load, Who::Direct, [Who::On, Who::Nginx], |sample| {
            sample.p50
        });
        assert_eq!(added, [vec![4.0, 6.0], vec![5.0, 7.0]]);
        let p99 = |sample: &Sample| sample.p99;
        assert_eq!(figures.median(cell, load, Who::Direct, p99), 40.0);
        assert!(figures.median(cell, load, Who::Off, p99).is_nan());
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

//! Stationary streams of models with one to many subjects, and how many of them ever raise an alarm.
//!
//! A stream draws a reference and then rows from the same law, so that every alarm is a false one. It is judged after every row
//! by the sequential test alone (any subject's evidence against the budget split over the subjects) and by the verdict of
//! a whole [`Monitor`].

use plumbline_drift::monitor::Settings;
use plumbline_drift::profile::{Datatype, Kind, Profile, Subject};
use plumbline_drift::report::State;
use plumbline_drift::sequential::{Bets, ConformalDetector};
use plumbline_drift::{Monitor, SplitMix64, SubjectBuilder};
use statrs::distribution::{Beta, ContinuousCDF};

/// Share of a row's subjects that repeat one common draw, where subjects move together.
const COMMON: f64 = 0.8;
/// Distinct classes of [`Law::Category`].
const CLASSES: usize = 12;

/// How values are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Law {
    /// On `[0, 1)`.
    Uniform,
    /// Mean 0, variance 1.
    Normal,
    /// Skewed: exponential with mean 1.
    Skewed,
    /// Heavy-tailed: Pareto with index 1.5, so without a variance.
    HeavyTailed,
    /// Twelve classes, each 0.7 times as likely as the one before; the last one comes once in 150 rows.
    Category,
    /// Numbers with five levels, the highest once in ten rows: nearly every value is a tie.
    Levels,
    /// True with probability 0.05.
    Flag,
}

impl Law {
    /// A value of this law, made from `u`, uniform in `[0, 1)`.
    fn value(self, u: f64) -> f64 {
        match self {
            Self::Uniform => u,
            // Box and Muller (1958), from the upper and the lower half of the 53 bits.
            Self::Normal => {
                let halves = u * (1_u64 << 26) as f64;
                let radius = (-2.0 * ((halves.floor() + 0.5) / (1_u64 << 26) as f64).ln()).sqrt();
                radius * (std::f64::consts::TAU * halves.fract()).cos()
            }
            Self::Skewed => -(1.0 - u).ln(),
            Self::HeavyTailed => (1.0 - u).powf(-1.0 / 1.5),
            Self::Category => {
                let (mut class, mut left) = (0, u * (1.0 - 0.7_f64.powi(CLASSES as i32)) / 0.3);
                for i in 0..CLASSES - 1 {
                    left -= 0.7_f64.powi(i as i32);
                    class += u32::from(left >= 0.0);
                }
                f64::from(class)
            }
            Self::Levels => (5.0 * u * u).floor(),
            Self::Flag => f64::from(u8::from(u < 0.05)),
        }
    }

    fn builder(self, name: &str) -> SubjectBuilder {
        let (datatype, kind) = match self {
            Self::Category => (Datatype::Int64, Kind::Categorical),
            Self::Flag => (Datatype::Bool, Kind::Boolean),
            _ => (Datatype::Fp64, Kind::Numeric),
        };
        SubjectBuilder::new(name, name, 0, datatype, kind)
    }

    fn push(self, builder: &mut SubjectBuilder, x: f64) {
        match self {
            Self::Flag => builder.push_boolean(x > 0.0),
            _ => builder.push_number(x),
        }
    }

    fn observe(self, monitor: &mut Monitor, subject: usize, x: f64) {
        match self {
            Self::Flag => monitor.observe_boolean(subject, x > 0.0),
            _ => monitor.observe_number(subject, x),
        }
    }
}

/// A model whose rows never change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Of every subject.
    pub(crate) law: Law,
    /// Subjects of the model.
    pub(crate) subjects: usize,
    /// Whether most subjects of a row share one draw, instead of none.
    pub(crate) together: bool,
    /// Rows of the reference.
    pub(crate) reference: usize,
    /// Rows after it.
    pub(crate) rows: usize,
    /// P(any false alarm of the model) that is promised for all `rows`.
    pub(crate) promise: f64,
    /// Where in its cell every rank lies, in the place of somewhere at random: a fault, for ranks are then not uniform.
    pub(crate) tie: Option<f64>,
    /// Done to every sequential test before its first row, to put a fault into it.
    pub(crate) prepare: fn(&mut ConformalDetector),
}

impl Case {
    /// A case without faults, with subjects apart and a reference of 300 rows.
    pub(crate) fn new(law: Law, subjects: usize, rows: usize, promise: f64) -> Self {
        Self {
            law,
            subjects,
            together: false,
            reference: 300,
            rows,
            promise,
            tie: None,
            prepare: |_| {},
        }
    }

    /// False alarms a row that keep the promise.
    pub(crate) fn rate(&self) -> f64 {
        self.promise / self.rows as f64
    }
}

/// What became of the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Streams.
    pub(crate) streams: u64,
    /// The ones in which the evidence of some subject reached its share of the budget.
    pub(crate) evidence: u64,
    /// The ones in which the monitor left the stable state.
    pub(crate) verdict: u64,
}

/// Runs the streams of these seeds: shape `[streams]`.
pub(crate) fn run(case: &Case, seeds: std::ops::Range<u64>) -> Outcome {
    let mut outcome = Outcome::default();
    for seed in seeds {
        let (evidence, verdict) = stream(case, seed);
        outcome.streams += 1;
        outcome.evidence += u64::from(evidence);
        outcome.verdict += u64::from(verdict);
    }
    outcome
}

/// Whether the evidence, and whether the verdict of one stream ever alarmed.
fn stream(case: &Case, seed: u64) -> (bool, bool) {
    let mut rows = Rows {
        case,
        rng: SplitMix64::new(seed.wrapping_mul(0xD134_2543_DE82_EF95)),
    };
    let profile = rows.reference();
    let settings = Settings {
        false_alarm_rate: case.rate(),
        seed,
        ..Settings::default()
    };
    let mut monitor =
        Monitor::new(&profile, settings, 0).expect("a profile of the builder, and valid settings");
    let mut tests: Vec<Test> = profile.subjects().map(|s| Test::new(s, case.prepare)).collect();
    let mut ties = SplitMix64::new(!seed);
    let needed = case.subjects as f64 / case.rate();
    let (mut evidence, mut verdict) = (false, false);
    for _ in 0..case.rows {
        let common = rows.rng.uniform();
        for (i, test) in tests.iter_mut().enumerate() {
            let x = rows.draw(common);
            case.law.observe(&mut monitor, i, x);
            let u = case.tie.unwrap_or_else(|| ties.uniform());
            test.detector
                .update(test.cell(x), u)
                .expect("a cell of the profile");
            evidence |= test.detector.evidence() >= needed;
        }
        if monitor.end_row() {
            monitor.close_window(0);
        }
        verdict |= monitor.state() != State::Stable;
    }
    (evidence, verdict)
}

/// The rows of a stream.
struct Rows<'a> {
    case: &'a Case,
    rng: SplitMix64,
}

impl Rows<'_> {
    fn draw(&mut self, common: f64) -> f64 {
        let is_common = self.case.together && self.rng.uniform() < COMMON;
        let u = if is_common { common } else { self.rng.uniform() };
        self.case.law.value(u)
    }

    fn reference(&mut self) -> Profile {
        let mut builders: Vec<_> = (0..self.case.subjects)
            .map(|i| self.case.law.builder(&i.to_string()))
            .collect();
        for _ in 0..self.case.reference {
            let common = self.rng.uniform();
            for builder in &mut builders {
                let x = self.draw(common);
                self.case.law.push(builder, x);
            }
        }
        Profile::new(
            "stationary",
            "1",
            self.case.reference as u64,
            builders.into_iter().map(SubjectBuilder::finish).collect(),
            Vec::new(),
        )
    }
}

/// The sequential test of one subject, without a monitor around it.
struct Test {
    cells: Cells,
    detector: ConformalDetector,
}

/// How a value finds its cell.
enum Cells {
    /// Cell "number of edges ≤ x".
    Edges(Vec<f64>),
    /// The class of this number has the cell at its place; a class that the reference never saw has the last but one.
    Classes([usize; CLASSES]),
    /// False, true.
    Boolean,
}

impl Test {
    fn new(subject: &Subject, prepare: fn(&mut ConformalDetector)) -> Self {
        let counts = subject.reference_counts();
        let cells = match (&subject.numeric, &subject.categorical) {
            (Some(numeric), _) => Cells::Edges(numeric.edges.clone()),
            (None, Some(categorical)) => {
                let mut cells = [categorical.categories.len(); CLASSES];
                for (cell, category) in categorical.categories.iter().enumerate() {
                    let class: usize = category.value.parse().expect("a class of the law");
                    cells[class] = cell;
                }
                Cells::Classes(cells)
            }
            (None, None) => Cells::Boolean,
        };
        let mut detector = ConformalDetector::new(&counts, Bets::for_reference(&counts));
        prepare(&mut detector);
        Self { cells, detector }
    }

    fn cell(&self, x: f64) -> usize {
        match &self.cells {
            Cells::Edges(edges) => edges.partition_point(|e| *e <= x),
            Cells::Classes(cells) => cells[x as usize],
            Cells::Boolean => x as usize,
        }
    }
}

/// Two-sided interval of a probability after `hits` in `trials`, exact at any number (Clopper and Pearson 1934).
pub(crate) fn clopper_pearson(hits: u64, trials: u64, confidence: f64) -> (f64, f64) {
    let tail = (1.0 - confidence) / 2.0;
    let (k, n) = (hits as f64, trials as f64);
    let quantile = |a: f64, b: f64, level: f64| Beta::new(a, b).expect("positive shapes").inverse_cdf(level);
    let low = if hits == 0 {
        0.0
    } else {
        quantile(k, n - k + 1.0, tail)
    };
    let high = if hits == trials {
        1.0
    } else {
        quantile(k + 1.0, n - k, 1.0 - tail)
    };
    (low, high)
}

//! Makes a profile from rows, by the rules of `schema/README.md`.

use std::collections::HashMap;

use crate::binner::{Binner, Place};
use crate::describe::{moments, quantile, sort};
use crate::fsum::fsum;
use crate::profile::{
    Boolean, Categorical, Category, Datatype, Kind, MAX_CATEGORIES, MAX_LEVELS, Numeric, QUANTILE_BINS,
    QUANTILE_LEVELS, Quantile, Role, Subject,
};

/// Collects the values of one column and turns them into a [`Subject`].
///
/// Rows may arrive in any order and in parts: builders of the same column [merge](Self::merge), and the result depends
/// only on the set of values.
#[derive(Clone, Debug)]
pub struct SubjectBuilder {
    /// Everything but the counts.
    identity: Subject,
    numbers: Vec<f64>,
    texts: HashMap<String, u64>,
    booleans: Boolean,
    missing: u64,
}

impl SubjectBuilder {
    /// A column named `name`, which is column `column` of tensor `tensor`.
    ///
    /// `kind` says which of the `push_*` methods applies. [`Kind::Categorical`] becomes [`Kind::TextLength`] in
    /// [`finish`](Self::finish) when it has too many different values and is not a label.
    pub fn new(name: &str, tensor: &str, column: u32, datatype: Datatype, kind: Kind) -> Self {
        let identity = Subject {
            name: name.to_owned(),
            tensor: tensor.to_owned(),
            column,
            datatype,
            kind,
            role: None,
            class: None,
            count: 0,
            missing: 0,
            numeric: None,
            categorical: None,
            boolean: None,
        };
        let booleans = Boolean { no: 0, yes: 0 };
        Self {
            identity,
            numbers: Vec::new(),
            texts: HashMap::new(),
            booleans,
            missing: 0,
        }
    }

    /// Makes it an output.
    #[must_use]
    pub fn role(mut self, role: Role, class: Option<&str>) -> Self {
        self.identity.role = Some(role);
        self.identity.class = class.map(str::to_owned);
        self
    }

    /// Adds a number, rounded to FP32 where the tensor holds that; one that is not [usable](is_usable) counts as missing. On a
    /// categorical column it is its decimal text.
    pub fn push_number(&mut self, value: f64) {
        let value = if self.identity.datatype == Datatype::Fp32 {
            f64::from(value as f32)
        } else {
            value
        };
        if !is_usable(value) {
            self.missing += 1;
        } else if self.identity.kind == Kind::Categorical {
            self.push_text(&(value + 0.0).to_string());
        } else {
            self.numbers.push(value);
        }
    }

    /// Adds a text; the empty one counts as missing.
    pub fn push_text(&mut self, value: &str) {
        if value.is_empty() {
            self.missing += 1;
        } else if let Some(count) = self.texts.get_mut(value) {
            *count += 1;
        } else {
            self.texts.insert(value.to_owned(), 1);
        }
    }

    /// Adds a truth value.
    pub fn push_boolean(&mut self, value: bool) {
        if value {
            self.booleans.yes += 1;
        } else {
            self.booleans.no += 1;
        }
    }

    /// Adds a row without a value.
    pub fn push_missing(&mut self) {
        self.missing += 1;
    }

    /// Adds everything that `other` saw of the same column.
    pub fn merge(&mut self, other: Self) {
        self.numbers.extend(other.numbers);
        for (text, count) in other.texts {
            *self.texts.entry(text).or_default() += count;
        }
        self.booleans.no += other.booleans.no;
        self.booleans.yes += other.booleans.yes;
        self.missing += other.missing;
    }

    /// A builder of the same column that has seen nothing.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            numbers: Vec::new(),
            texts: HashMap::new(),
            booleans: Boolean { no: 0, yes: 0 },
            missing: 0,
        }
    }

    /// Its rows in the bins of `subject`, which a builder of the same column made: the order is that of
    /// [`Subject::reference_counts`].
    pub(crate) fn tally(&self, subject: &Subject, binner: &Binner) -> Vec<u64> {
        let mut counts = vec![0; subject.reference_counts().len()];
        let mut add = |place: Place, rows: u64| {
            let (Place::Number(bin, _) | Place::Bin(bin)) = place;
            if let Some(count) = counts.get_mut(bin) {
                *count += rows;
            }
        };
        for x in &self.numbers {
            // Not through the binner: on a subject of lengths it takes numbers for missing.
            let edges = subject.numeric.as_ref().map_or(&[][..], |n| &n.edges);
            add(Place::Bin(edges.partition_point(|e| e <= x)), 1);
        }
        for (text, rows) in &self.texts {
            add(binner.text(text.as_bytes()), *rows);
        }
        add(binner.boolean(false), self.booleans.no);
        add(binner.boolean(true), self.booleans.yes);
        add(binner.missing(), self.missing);
        counts
    }

    /// Rows so far, the ones without a value included.
    pub fn rows(&self) -> u64 {
        let texts: u64 = self.texts.values().sum();
        self.numbers.len() as u64 + texts + self.booleans.no + self.booleans.yes + self.missing
    }

    /// The subject of everything pushed.
    pub fn finish(self) -> Subject {
        let rows = self.rows();
        let mut subject = self.identity;
        subject.missing = self.missing;
        subject.count = rows - self.missing;
        let is_label = subject.role == Some(Role::Label);
        if subject.kind == Kind::Categorical && !is_label && too_many(self.texts.len() as u64, subject.count)
        {
            subject.kind = Kind::TextLength;
        }
        match subject.kind {
            Kind::Numeric => subject.numeric = Some(numeric(self.numbers)),
            Kind::TextLength => {
                let lengths = self
                    .texts
                    .iter()
                    .flat_map(|(t, n)| std::iter::repeat_n(t.len() as f64, *n as usize));
                subject.numeric = Some(numeric(self.numbers.into_iter().chain(lengths).collect()));
            }
            Kind::Categorical => subject.categorical = Some(categorical(self.texts)),
            Kind::Boolean => subject.boolean = Some(self.booleans),
        }
        subject
    }
}

/// Whether a number counts as a value: NaN, infinities and magnitudes above 1e300 do not, in the reference and after.
///
/// The bound leaves room for guards, gaps and sums, so that nothing here overflows.
pub fn is_usable(value: f64) -> bool {
    value.abs() <= 1e300
}

/// Whether texts are too different to be categories: more than 256 values that make up more than a tenth of the rows.
pub(crate) fn too_many(distinct: u64, count: u64) -> bool {
    distinct > MAX_CATEGORIES as u64 && distinct.saturating_mul(10) > count
}

fn categorical(texts: HashMap<String, u64>) -> Categorical {
    let categories = texts.into_iter().map(|(value, count)| Category { value, count });
    Categorical::ranked(categories.collect())
}

/// Bins and moments of [usable](is_usable) values.
pub fn numeric(mut values: Vec<f64>) -> Numeric {
    sort(&mut values);
    let edges = bin_edges(&values);
    describe(&values, edges)
}

/// Bins and moments of [usable](is_usable) values on edges that were made before, such as those of another part of the
/// rows; shape `[bins + 1]`, ascending.
///
/// A profile is valid, and [merges](crate::Profile::merge), when all values are between the first and the last edge.
pub fn numeric_on(edges: &[f64], mut values: Vec<f64>) -> Numeric {
    sort(&mut values);
    let edges = if values.is_empty() {
        Vec::new()
    } else {
        edges.to_vec()
    };
    describe(&values, edges)
}

/// `values`: ascending.
fn describe(values: &[f64], edges: Vec<f64>) -> Numeric {
    let mut counts = vec![0_u64; edges.len() + 1];
    let mut means = vec![None; edges.len() + 1];
    let mut rest = values;
    for (bin, (count, mean)) in counts.iter_mut().zip(&mut means).enumerate() {
        let inside = edges
            .get(bin)
            .map_or(rest.len(), |edge| rest.partition_point(|x| x < edge));
        let (own, above) = rest.split_at(inside);
        *count = own.len() as u64;
        *mean = bin_mean(own);
        rest = above;
    }
    let m = moments(values);
    let at = |level| quantile(values, level).map(|value| Quantile { level, value });
    Numeric {
        distinct: values.chunk_by(|a, b| a == b).count() as u64,
        edges,
        counts,
        means,
        min: values.first().copied(),
        max: values.last().copied(),
        mean: m.mean,
        variance: m.variance,
        skewness: m.skewness,
        kurtosis: m.kurtosis,
        quantiles: QUANTILE_LEVELS.into_iter().filter_map(at).collect(),
    }
}

/// Mean of the ascending values of a bin; clamped into them, so that rounding cannot put it outside its own bin.
fn bin_mean(values: &[f64]) -> Option<f64> {
    let (&low, &high) = (values.first()?, values.last()?);
    Some((fsum(values.iter().copied()) / values.len() as f64).clamp(low, high))
}

/// Bin edges of ascending usable values: guards below and above the range, cuts halfway between neighbouring distinct
/// values, so that rounding a value to the tensor's datatype does not move it into another bin.
fn bin_edges(sorted: &[f64]) -> Vec<f64> {
    let n = sorted.len();
    // Index of the first row of each distinct value.
    let mut starts: Vec<usize> = (0..n).filter(|&i| i == 0 || sorted[i - 1] < sorted[i]).collect();
    let Some(&last_start) = starts.last() else {
        return Vec::new();
    };
    let lowest = sorted[0];
    let highest = sorted[n - 1];
    let gap_low = starts.get(1).map_or(0.0, |&i| 0.5 * sorted[i] - 0.5 * lowest);
    let gap_high = if last_start > 0 {
        0.5 * highest - 0.5 * sorted[last_start - 1]
    } else {
        0.0
    };

    if starts.len() > MAX_LEVELS {
        starts = quantile_cuts(sorted, &starts);
    } else {
        starts.remove(0);
    }
    let cuts = starts.into_iter().map(|i| halfway(sorted[i - 1], sorted[i]));
    let below = lowest - guard(lowest, gap_low);
    let above = highest + guard(highest, gap_high);
    std::iter::once(below).chain(cuts).chain([above]).collect()
}

/// Rows before which to cut: below the value at each sixteenth, and above it when it alone fills a sixteenth.
fn quantile_cuts(sorted: &[f64], starts: &[usize]) -> Vec<usize> {
    let n = sorted.len();
    let mut cuts = Vec::with_capacity(2 * QUANTILE_BINS);
    for k in 1..QUANTILE_BINS {
        let position = k * n / QUANTILE_BINS;
        let level = starts.partition_point(|&s| s <= position) - 1;
        let start = starts[level];
        let end = starts.get(level + 1).copied().unwrap_or(n);
        cuts.push(start);
        if (end - start) * QUANTILE_BINS >= n {
            cuts.push(end);
        }
    }
    cuts.retain(|&c| c > 0 && c < n);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// An edge `c` with `a < c ≤ b`, in the middle where there is room.
fn halfway(a: f64, b: f64) -> f64 {
    let middle = 0.5 * a + 0.5 * b;
    if a < middle { middle } else { b }
}

/// How far outside the range a value may lie and still count as inside: half the gap to the next value, and at least
/// what rounding to FP32 can move it.
fn guard(end: f64, half_gap: f64) -> f64 {
    const ROUNDING: f64 = 1.0 / (1 << 20) as f64;
    half_gap.max(end.abs() * ROUNDING).max(f64::MIN_POSITIVE)
}

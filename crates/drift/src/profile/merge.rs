//! Profiles of parts of the rows, put together: one per shard, all on the same bins.

use super::{
    Boolean, Calibration, CalibrationBin, Categorical, Category, DataInfo, Kind, MAX_CATEGORIES, Numeric,
    Problem, Profile, ProfileError, Quantile, Role, SeasonalCounts, Seasonality, Segment, Segmentation,
    Subject,
};
use crate::build::too_many;
use crate::season::HOURS;

impl Profile {
    /// The profile of the rows of both; generator and identity are those of `self`, the time is the later one.
    ///
    /// Both have to describe the same columns of the same model on equal bin edges ([`crate::numeric_on`] makes them so).
    /// Counts, missing values, categories, minima and maxima are then exactly those of all rows, and means and moments are
    /// equal up to rounding. Quantiles are exact where every bin holds one value, otherwise within the bin;
    /// `numeric.distinct` is exact in the first case, otherwise what is certain. The digest of the data stays only
    /// when both have the same.
    ///
    /// # Errors
    /// [`ProfileError::Merge`] with every difference that stands in the way, [`ProfileError::Invalid`] when a part or the
    /// whole contradicts itself.
    pub fn merge(&self, other: &Self) -> Result<Self, ProfileError> {
        self.validate()?;
        other.validate()?;
        let mut d = Differences(Vec::new());
        d.same("model.name", &self.model.name, &other.model.name);
        d.same("model.version", &self.model.version, &other.model.version);
        d.same("model.digest", &self.model.digest, &other.model.digest);
        d.same("target", &self.target, &other.target);
        d.same("training", &self.training, &other.training);
        d.same("importances", &self.importances, &other.importances);
        let mut merged = Self {
            created_at: self.created_at.clone().max(other.created_at.clone()),
            data: DataInfo {
                rows: self.data.rows + other.data.rows,
                digest: self
                    .data
                    .digest
                    .clone()
                    .filter(|own| other.data.digest.as_ref() == Some(own)),
            },
            features: subjects(&mut d, "features", &self.features, &other.features),
            outputs: subjects(&mut d, "outputs", &self.outputs, &other.outputs),
            calibration: calibrations(&mut d, self.calibration.as_deref(), other.calibration.as_deref()),
            segments: segments(&mut d, self.segments.as_ref(), other.segments.as_ref()),
            ..self.clone()
        };
        let seasons = [self, other].map(|part| (part.seasonality.as_ref(), part.subjects().collect()));
        let subjects: Vec<&Subject> = merged.subjects().collect();
        merged.seasonality = seasonality(&mut d, "seasonality", &seasons, &subjects);
        if !d.0.is_empty() {
            return Err(ProfileError::Merge(d.0));
        }
        merged.validate()?;
        Ok(merged)
    }
}

/// Collects what stands in the way, with its path.
struct Differences(Vec<Problem>);

impl Differences {
    fn add(&mut self, path: &str, reason: String) {
        self.0.push(Problem {
            path: path.to_owned(),
            reason,
        });
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, path: &str, first: &T, second: &T) {
        if first != second {
            self.add(path, format!("{first:?} in the first, {second:?} in the second"));
        }
    }
}

fn subjects(d: &mut Differences, list: &str, first: &[Subject], second: &[Subject]) -> Vec<Subject> {
    let names = |subjects: &[Subject]| subjects.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    if names(first) != names(second) {
        d.same(list, &names(first), &names(second));
        return Vec::new();
    }
    let pairs = first.iter().zip(second).enumerate();
    pairs
        .map(|(i, (a, b))| subject(d, &format!("{list}[{i}]"), a, b))
        .collect()
}

fn subject(d: &mut Differences, path: &str, a: &Subject, b: &Subject) -> Subject {
    d.same(&format!("{path}.tensor"), &a.tensor, &b.tensor);
    d.same(&format!("{path}.column"), &a.column, &b.column);
    d.same(&format!("{path}.datatype"), &a.datatype, &b.datatype);
    d.same(&format!("{path}.kind"), &a.kind, &b.kind);
    d.same(&format!("{path}.role"), &a.role, &b.role);
    d.same(&format!("{path}.class"), &a.class, &b.class);
    let mut merged = Subject {
        count: a.count + b.count,
        missing: a.missing + b.missing,
        ..a.clone()
    };
    if let (Some(a), Some(b)) = (&a.numeric, &b.numeric) {
        merged.numeric = Some(numeric(d, &format!("{path}.numeric"), a, b));
    }
    if let (Some(a), Some(b)) = (&a.categorical, &b.categorical) {
        let categorical = categorical(d, &format!("{path}.categorical"), a, b);
        if merged.kind == Kind::Categorical
            && merged.role != Some(Role::Label)
            && too_many(categorical.distinct, merged.count)
        {
            d.add(
                &format!("{path}.kind"),
                format!(
                    "{} different texts in {} rows are too many for categories; make one profile from all rows",
                    categorical.distinct, merged.count
                ),
            );
        }
        merged.categorical = Some(categorical);
    }
    if let (Some(a), Some(b)) = (a.boolean, b.boolean) {
        merged.boolean = Some(Boolean {
            no: a.no + b.no,
            yes: a.yes + b.yes,
        });
    }
    merged
}

fn categorical(d: &mut Differences, path: &str, a: &Categorical, b: &Categorical) -> Categorical {
    for (part, which) in [(a, "first"), (b, "second")] {
        if part.other > 0 {
            d.add(
                &format!("{path}.other"),
                format!(
                    "{} rows in the {which}: which categories they have is not known",
                    part.other
                ),
            );
        }
    }
    let mut categories = a.categories.clone();
    for category in &b.categories {
        match categories.iter_mut().find(|known| known.value == category.value) {
            Some(known) => known.count += category.count,
            None => categories.push(category.clone()),
        }
    }
    Categorical::ranked(categories)
}

impl Categorical {
    /// Categories in their order, those after the first [`MAX_CATEGORIES`] counted together.
    pub(crate) fn ranked(mut categories: Vec<Category>) -> Self {
        let distinct = categories.len() as u64;
        categories.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        let other = categories.iter().skip(MAX_CATEGORIES).map(|c| c.count).sum();
        categories.truncate(MAX_CATEGORIES);
        Self {
            distinct,
            categories,
            other,
        }
    }
}

fn numeric(d: &mut Differences, path: &str, a: &Numeric, b: &Numeric) -> Numeric {
    // Without values there are no edges, and nothing to add.
    if a.edges.is_empty() {
        return b.clone();
    }
    if b.edges.is_empty() {
        return a.clone();
    }
    if a.edges != b.edges {
        d.same(&format!("{path}.edges"), &a.edges, &b.edges);
        return a.clone();
    }
    let counts: Vec<u64> = a.counts.iter().zip(&b.counts).map(|(a, b)| a + b).collect();
    let sides = a.counts.iter().zip(&a.means).zip(b.counts.iter().zip(&b.means));
    let means = sides
        .map(|((n, a), (m, b))| match (a, b) {
            (Some(a), Some(b)) => Some(weighted(*a, *n, *b, *m)),
            (one, other) => one.or(*other),
        })
        .collect();
    let occupied = |numeric: &Numeric| numeric.counts.iter().filter(|n| **n > 0).count() as u64;
    let agree = |(a, b): (&Option<f64>, &Option<f64>)| a.is_none() || b.is_none() || a == b;
    let is_one_value_a_bin =
        a.distinct == occupied(a) && b.distinct == occupied(b) && a.means.iter().zip(&b.means).all(agree);
    let mut merged = Numeric {
        distinct: a.distinct.max(b.distinct),
        edges: a.edges.clone(),
        counts,
        means,
        min: smaller(a.min, b.min),
        max: smaller(a.max.map(|x| -x), b.max.map(|x| -x)).map(|x| -x),
        ..moments(a, b)
    };
    merged.distinct = merged.distinct.max(occupied(&merged));
    merged.quantiles = a
        .quantiles
        .iter()
        .map(|quantile| Quantile {
            level: quantile.level,
            value: merged.quantile(quantile.level, is_one_value_a_bin),
        })
        .collect();
    merged
}

fn smaller(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Mean of `n` values around `a` and `m` around `b`, between them.
fn weighted(a: f64, n: u64, b: f64, m: u64) -> f64 {
    let mean = a + (b - a) * (m as f64 / (n as f64 + m as f64));
    mean.clamp(a.min(b), a.max(b))
}

/// Moments of both together, all else empty. Sums of powers of deviations add after Pébay (2008), *Formulas for Robust,
/// One-Pass Parallel Computation of Covariances and Arbitrary-Order Statistical Moments*, equations 3.1; in units of the
/// largest deviation, so that no power overflows.
fn moments(a: &Numeric, b: &Numeric) -> Numeric {
    let rows = |numeric: &Numeric| numeric.counts.iter().sum::<u64>();
    let (n, m) = (rows(a) as f64, rows(b) as f64);
    let (mean_a, mean_b) = (a.mean.unwrap_or(0.0), b.mean.unwrap_or(0.0));
    let sd = |numeric: &Numeric| numeric.variance.unwrap_or(0.0).sqrt();
    let unit = sd(a).max(sd(b)).max((mean_b - mean_a).abs());
    let mut merged = Numeric {
        mean: Some(weighted(mean_a, rows(a), mean_b, rows(b))),
        ..Numeric::empty()
    };
    // A variance that overflowed in a part does in the whole.
    let is_lost = |numeric: &Numeric| numeric.variance.is_none() && rows(numeric) > 1;
    if is_lost(a) || is_lost(b) {
        return merged;
    }
    if unit == 0.0 {
        merged.variance = Some(0.0);
        return merged;
    }
    let sums = |numeric: &Numeric, n: f64| {
        let m2 = numeric.variance.unwrap_or(0.0) / unit / unit * (n - 1.0) / n;
        let m3 = numeric.skewness.unwrap_or(0.0) * m2 * m2.sqrt();
        let m4 = numeric.kurtosis.map_or(0.0, |k| (k + 3.0) * m2 * m2);
        (m2 * n, m3 * n, m4 * n)
    };
    let ((a2, a3, a4), (b2, b3, b4)) = (sums(a, n), sums(b, m));
    let (delta, total) = ((mean_b - mean_a) / unit, n + m);
    let (p, q) = (n / total, m / total);
    let s2 = a2 + b2 + delta.powi(2) * n * q;
    let s3 = a3 + b3 + delta.powi(3) * n * q * (p - q) + 3.0 * delta * (p * b2 - q * a2);
    let s4 = a4
        + b4
        + delta.powi(4) * n * q * (p * p - p * q + q * q)
        + 6.0 * delta.powi(2) * (p * p * b2 + q * q * a2)
        + 4.0 * delta * (p * b3 - q * a3);
    let m2 = s2 / total;
    merged.variance = Some(s2 / (total - 1.0) * unit * unit).filter(|v| v.is_finite());
    merged.skewness = Some(s3 / total / (m2 * m2.sqrt())).filter(|s| s.is_finite());
    merged.kurtosis = Some(s4 / total / (m2 * m2) - 3.0).filter(|k| k.is_finite());
    merged
}

impl Numeric {
    fn empty() -> Self {
        Self {
            distinct: 0,
            edges: Vec::new(),
            counts: Vec::new(),
            means: Vec::new(),
            min: None,
            max: None,
            mean: None,
            variance: None,
            skewness: None,
            kurtosis: None,
            quantiles: Vec::new(),
        }
    }

    /// The quantile as the bins have it: of type 7 where a bin holds one value, else on the line from a bin's lower end to
    /// its upper.
    fn quantile(&self, level: f64, is_one_value_a_bin: bool) -> f64 {
        let (low, high) = (self.min.unwrap_or(0.0), self.max.unwrap_or(0.0));
        let rows: u64 = self.counts.iter().sum();
        let position = rows.saturating_sub(1) as f64 * level;
        let row = position.floor();
        if is_one_value_a_bin {
            let at = |row: f64| self.means[self.bin_of_row(row as u64).0].unwrap_or(low);
            return crate::describe::quantile(&[at(row), at(row + 1.0)], position - row).unwrap_or(low);
        }
        if level <= 0.0 {
            return low;
        }
        if level >= 1.0 {
            return high;
        }
        let (bin, before) = self.bin_of_row(row as u64);
        let end = |edge: Option<usize>| edge.and_then(|edge| self.edges.get(edge)).copied();
        let lower = end(bin.checked_sub(1)).map_or(low, |edge| edge.max(low));
        let upper = end(Some(bin)).map_or(high, |edge| edge.min(high));
        let inside = (position - before as f64 + 0.5) / self.counts[bin] as f64;
        (lower + (upper - lower) * inside.min(1.0)).clamp(lower, upper)
    }

    /// The bin of a row in ascending order, and the rows before that bin; the last row for one beyond.
    fn bin_of_row(&self, row: u64) -> (usize, u64) {
        let (mut before, mut found) = (0, (0, 0));
        for (bin, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            found = (bin, before);
            before += count;
            if row < before {
                break;
            }
        }
        found
    }
}

fn calibrations(
    d: &mut Differences,
    first: Option<&[Calibration]>,
    second: Option<&[Calibration]>,
) -> Option<Vec<Calibration>> {
    let shape = |curves: Option<&[Calibration]>| {
        curves.map(|curves| {
            let limits = |curve: &Calibration| -> Vec<_> {
                curve.bins.iter().map(|bin| (bin.lower, bin.upper)).collect()
            };
            curves
                .iter()
                .map(|curve| (curve.output.clone(), limits(curve)))
                .collect::<Vec<_>>()
        })
    };
    d.same("calibration", &shape(first), &shape(second));
    let curves = first?.iter().zip(second?).map(|(a, b)| Calibration {
        output: a.output.clone(),
        bins: a.bins.iter().zip(&b.bins).map(calibration_bin).collect(),
    });
    Some(curves.collect())
}

fn calibration_bin((a, b): (&CalibrationBin, &CalibrationBin)) -> CalibrationBin {
    if a.count == 0 || b.count == 0 {
        return if a.count == 0 { b.clone() } else { a.clone() };
    }
    CalibrationBin {
        count: a.count + b.count,
        predicted: weighted(a.predicted, a.count, b.predicted, b.count),
        observed: weighted(a.observed, a.count, b.observed, b.count),
        ..a.clone()
    }
}

/// Seasons of two parts, each with its subjects, over the `merged` subjects.
fn seasonality(
    d: &mut Differences,
    path: &str,
    parts: &[(Option<&Seasonality>, Vec<&Subject>); 2],
    merged: &[&Subject],
) -> Option<Seasonality> {
    let [names, others] = parts.each_ref().map(|(seasonality, _)| {
        let seasons = seasonality.map(|s| s.hour_of_week.iter());
        seasons.map(|seasons| seasons.map(|season| season.subject.clone()).collect::<Vec<_>>())
    });
    d.same(path, &names, &others);
    if !d.0.is_empty() {
        return None;
    }
    let season = |subject: String| {
        let bins = merged.iter().find(|s| s.name == subject)?.bin_names();
        let mut counts = vec![vec![0; bins.len()]; HOURS];
        for (seasonality, subjects) in parts {
            let known = subjects.iter().find(|s| s.name == subject)?.bin_names();
            let seasons = &seasonality.as_ref()?.hour_of_week;
            let season = seasons.iter().find(|season| season.subject == subject)?;
            // The order of categories is that of their counts, which differs from part to part.
            let place = |name: &String| bins.iter().position(|bin| bin == name).unwrap_or(bins.len() - 2);
            let places: Vec<usize> = known.iter().map(place).collect();
            for (sums, hour) in counts.iter_mut().zip(&season.counts) {
                for (place, rows) in places.iter().zip(hour) {
                    sums[*place] += rows;
                }
            }
        }
        Some(SeasonalCounts { subject, counts })
    };
    Some(Seasonality {
        hour_of_week: names?.into_iter().filter_map(season).collect(),
    })
}

fn segments(
    d: &mut Differences,
    first: Option<&Segmentation>,
    second: Option<&Segmentation>,
) -> Option<Segmentation> {
    let shape = |segmentation: Option<&Segmentation>| {
        let names = |s: &Segmentation| s.parts.iter().map(|p| p.name().to_owned()).collect::<Vec<_>>();
        segmentation.map(|segmentation| (segmentation.feature.clone(), names(segmentation)))
    };
    if shape(first) != shape(second) {
        d.same("segments", &shape(first), &shape(second));
        return None;
    }
    let (first, second) = (first?, second?);
    let parts = first.parts.iter().zip(&second.parts).enumerate();
    Some(Segmentation {
        feature: first.feature.clone(),
        parts: parts
            .map(|(i, (a, b))| segment(d, &format!("segments.parts[{i}]"), a, b))
            .collect(),
    })
}

fn segment(d: &mut Differences, path: &str, a: &Segment, b: &Segment) -> Segment {
    let mut merged = Segment {
        value: a.value.clone(),
        rows: a.rows + b.rows,
        features: subjects(d, &format!("{path}.features"), &a.features, &b.features),
        outputs: subjects(d, &format!("{path}.outputs"), &a.outputs, &b.outputs),
        seasonality: None,
    };
    merged.seasonality = seasonality(
        d,
        &format!("{path}.seasonality"),
        &[a, b].map(|part| (part.seasonality.as_ref(), subjects_of(part))),
        &subjects_of(&merged),
    );
    merged
}

fn subjects_of(segment: &Segment) -> Vec<&Subject> {
    segment.features.iter().chain(&segment.outputs).collect()
}

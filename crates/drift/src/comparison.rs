//! Compares a window with the reference, with the care that small bins, missing values and dependent rows need.

use crate::report::{BinReport, Statistics};
use crate::special::chi2_sf;
use crate::stats::binned::{Pair, pool_bins, pooled};

/// Rows that a bin is expected to hold for the chi-square law to be near.
const FOR_P_VALUES: f64 = 5.0;
/// Rows that a bin is expected to hold for its part of an effect to mean something, where no p-value is asked for.
const FOR_EFFECTS: f64 = 1.0;

/// The statistics of a window, without the ones that need values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) statistics: Statistics,
    /// The effect before the cut at 0.
    pub(crate) excess: f64,
    /// Standard deviation of the effect if nothing changed.
    pub(crate) null_error: f64,
}

/// The size of a change, on the scale of the PSI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    /// PSI less its mean when nothing changed: below 0 where chance alone would make more of it.
    pub(crate) excess: f64,
    /// Its standard deviation.
    pub(crate) error: f64,
    /// Its standard deviation if nothing changed.
    pub(crate) null_error: f64,
}

impl Effect {
    /// `dof` bins less one; `shrink` as in [`compare`].
    fn new(pair: &Pair<'_>, dof: u64, shrink: f64) -> Self {
        let dof = dof as f64;
        let scale = pair.scale() / shrink;
        let excess = if dof > 0.0 { pair.psi() - dof * scale } else { 0.0 };
        Self {
            excess,
            // n_e · PSI has a noncentral chi-square law with this variance.
            error: (2.0 * dof + 4.0 * excess.max(0.0) / scale).sqrt() * scale,
            null_error: (2.0 * dof).sqrt() * scale,
        }
    }
}

/// The size of a change that is known to be there: of histograms as in [`compare`], with bins as fine as rows allow.
pub(crate) fn effect(reference: &[u64], detection: &[u64], ordered: bool) -> Option<Effect> {
    let groups = groups(reference, detection, ordered, FOR_EFFECTS)?;
    let (reference, detection) = (pooled(reference, &groups), pooled(detection, &groups));
    let pair = Pair::new(&reference, &detection).ok()?;
    let dof = pair.chi_square().map_or(0, |c| c.dof);
    Some(Effect::new(&pair, dof, 1.0))
}

/// Compares histograms whose last bin is for missing values. `shrink` in (0, 1]: the share of the rows that counts as
/// independent. `alpha`: the level of the critical value. `None` without rows on a side.
pub(crate) fn compare(
    reference: &[u64],
    detection: &[u64],
    ordered: bool,
    shrink: f64,
    alpha: f64,
) -> Option<Comparison> {
    let all = Pair::new(reference, detection).ok()?;
    let groups = groups(reference, detection, ordered, FOR_P_VALUES)?;
    let (large_reference, large_detection) = (pooled(reference, &groups), pooled(detection, &groups));
    let large = Pair::new(&large_reference, &large_detection).ok()?;
    let chi_square = large.chi_square();
    let dof = chi_square.map_or(0, |c| c.dof);
    let effect = Effect::new(&large, dof, shrink);
    let statistic = chi_square.map_or(0.0, |c| c.statistic * shrink);
    let ks = ordered.then(|| all.kolmogorov_smirnov());
    Some(Comparison {
        excess: effect.excess,
        null_error: effect.null_error,
        statistics: Statistics {
            psi: all.psi(),
            psi_null_mean: all.psi_null_mean(),
            psi_critical: all.psi_critical(alpha).unwrap_or(0.0),
            effect: effect.excess.max(0.0),
            effect_error: effect.error,
            z: if effect.null_error > 0.0 {
                effect.excess / effect.null_error
            } else {
                0.0
            },
            chi_square: statistic,
            chi_square_dof: dof,
            p_value: chi2_sf(statistic, dof as f64),
            cramers_v: large.cramers_v().unwrap_or(0.0),
            js_distance: all.js_distance(),
            hellinger: all.hellinger(),
            total_variation: all.total_variation(),
            ks: ks.map(|k| k.statistic),
            ks_p_value: ks.map(|k| k.p_value),
            wasserstein: None,
            wasserstein_normed: None,
        },
    })
}

/// Terms of the PSI, bin by bin; empty without rows on a side.
pub(crate) fn psi_terms(reference: &[u64], detection: &[u64]) -> Vec<f64> {
    Pair::new(reference, detection)
        .map(|pair| pair.psi_terms().collect())
        .unwrap_or_default()
}

/// Both histograms side by side. `edges` is empty for bins that are not intervals; the last bin is the one for missing values.
pub(crate) fn bin_reports(
    names: &[String],
    edges: &[f64],
    reference: &[u64],
    window: &[u64],
    total: &[u64],
    psi: &[f64],
) -> Vec<BinReport> {
    let missing = names.len().saturating_sub(1);
    let at = |counts: &[u64], i: usize| counts.get(i).copied().unwrap_or(0);
    names
        .iter()
        .enumerate()
        .map(|(i, name)| BinReport {
            name: name.clone(),
            lower: i
                .checked_sub(1)
                .filter(|_| i < missing)
                .and_then(|e| edges.get(e).copied()),
            upper: edges.get(i).copied().filter(|_| i < missing),
            reference: at(reference, i),
            window: at(window, i),
            total: at(total, i),
            psi: psi.get(i).copied().unwrap_or(0.0),
        })
        .collect()
}

/// Merges bins that are expected to hold fewer rows. Missing values have no neighbours: they keep their bin once there are enough, and share the last one
/// before.
fn groups(reference: &[u64], detection: &[u64], ordered: bool, min_expected: f64) -> Option<Vec<usize>> {
    if !ordered {
        return pool_bins(reference, detection, min_expected, false).ok();
    }
    let (missing_reference, values_reference) = reference.split_last()?;
    let (missing_detection, values_detection) = detection.split_last()?;
    let mut groups = pool_bins(values_reference, values_detection, min_expected, true)
        // All rows of a side are missing: whatever values there are share one bin.
        .unwrap_or_else(|_| vec![0; values_reference.len()]);
    let (n, m) = (
        reference.iter().sum::<u64>() as f64,
        detection.iter().sum::<u64>() as f64,
    );
    let expected = (missing_reference + missing_detection) as f64 * m / (n + m);
    let last = groups.last().copied().unwrap_or(0);
    groups.push(if expected >= min_expected { last + 1 } else { last });
    Some(groups)
}

/// `∫ |F − G|` of two laws on points; `None` when one has none, or a bin with rows has no point.
pub(crate) fn wasserstein<'a>(
    reference: impl Iterator<Item = (&'a u64, &'a Option<f64>)>,
    detection: impl Iterator<Item = (&'a u64, &'a Option<f64>)>,
) -> Option<f64> {
    let points = |side: &mut dyn Iterator<Item = (&'a u64, &'a Option<f64>)>| -> Option<Vec<(f64, f64)>> {
        let points: Vec<(f64, f64)> = side
            .filter(|(n, _)| **n > 0)
            .map(|(n, at)| Some(((*at)?, *n as f64)))
            .collect::<Option<_>>()?;
        let total: f64 = points.iter().map(|(_, n)| n).sum();
        (total > 0.0).then(|| points.into_iter().map(|(at, n)| (at, n / total)).collect())
    };
    let (mut reference, mut detection) = (reference, detection);
    let mut steps = points(&mut reference)?;
    steps.extend(
        points(&mut detection)?
            .into_iter()
            .map(|(at, share)| (at, -share)),
    );
    steps.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut difference = 0.0_f64;
    let mut distance = 0.0;
    for pair in steps.windows(2) {
        if let [(at, step), (next, _)] = pair {
            difference += step;
            distance += difference.abs() * (next - at);
        }
    }
    Some(distance)
}

#[cfg(test)]
mod tests {
    use super::{compare, wasserstein};

    #[test]
    fn nothing_changed_is_no_effect_and_everything_changed_is_a_large_one() {
        let reference = [0, 1000, 1000, 1000, 1000, 0, 0];
        let same = compare(&reference, &[0, 125, 125, 125, 125, 0, 0], true, 1.0, 1e-4).expect("rows");
        assert_eq!((same.statistics.effect, same.statistics.p_value), (0.0, 1.0));
        assert!(same.statistics.z < 0.0);
        let gone = compare(&reference, &[0, 0, 0, 0, 0, 500, 0], true, 1.0, 1e-4).expect("rows");
        assert!(gone.statistics.effect > 5.0 && gone.statistics.p_value < 1e-100);
        let missing = compare(&reference, &[0, 100, 100, 100, 100, 0, 100], true, 1.0, 1e-4).expect("rows");
        assert!(
            missing.statistics.effect > 0.5,
            "missing values are a bin of their own"
        );
        let all_missing = compare(&reference, &[0, 0, 0, 0, 0, 0, 500], true, 1.0, 1e-4).expect("rows");
        assert!(all_missing.statistics.effect > 3.0);
        assert!(compare(&reference, &[0; 7], true, 1.0, 1e-4).is_none());
    }

    #[test]
    fn dependent_rows_weigh_less() {
        let (reference, detection) = ([0, 1000, 1000, 0, 0], [0, 300, 200, 0, 0]);
        let free = compare(&reference, &detection, true, 1.0, 1e-4).expect("rows");
        let tied = compare(&reference, &detection, true, 0.2, 1e-4).expect("rows");
        assert!(tied.statistics.p_value > free.statistics.p_value);
        assert!(tied.null_error > free.null_error && tied.statistics.effect < free.statistics.effect);
    }

    #[test]
    fn wasserstein_moves_the_share_by_the_distance() {
        let at = [None, Some(1.0), Some(3.0)];
        let moved = wasserstein([0, 1, 1].iter().zip(&at), [0, 0, 7].iter().zip(&at));
        assert_eq!(moved, Some(1.0));
        assert_eq!(
            wasserstein([0, 0, 0].iter().zip(&at), [0, 0, 7].iter().zip(&at)),
            None
        );
        assert_eq!(
            wasserstein([1, 0, 0].iter().zip(&at), [0, 0, 7].iter().zip(&at)),
            None
        );
    }
}

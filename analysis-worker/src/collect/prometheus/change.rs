//! When a series changed its level.

use super::median;

/// Points on each side of a change: fewer say nothing.
const MIN_SIDE: usize = 4;
/// Least value of the statistic. Andrews' 1 % bound for one unknown break of a mean is 12.2 (Andrews 1993, *Tests for
/// parameter instability and structural change with unknown change point*, table 1, 15 % trimmed); rates over windows
/// are autocorrelated, so twice that.
const MIN_STATISTIC: f64 = 25.0;
/// Least change of the level, as a share of the larger level.
const MIN_SHARE: f64 = 0.2;

/// A change of the level of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    /// Time of the first point after it, in milliseconds since 1970.
    pub(super) at: i64,
    /// Medians on both sides.
    pub(super) before: f64,
    pub(super) after: f64,
}

/// The split into two levels that leaves the least squares, when it is beyond chance and large enough to matter.
pub(super) fn find(points: &[(i64, f64)]) -> Option<Change> {
    let n = points.len();
    if n < 2 * MIN_SIDE {
        return None;
    }
    let total: f64 = points.iter().map(|(_, value)| value).sum();
    let mean = total / n as f64;
    let spread: f64 = points.iter().map(|(_, value)| (value - mean).powi(2)).sum();
    let mut left = 0.0;
    let mut best: Option<(usize, f64)> = None;
    for split in 1..n {
        left += points[split - 1].1;
        if split < MIN_SIDE || n - split < MIN_SIDE {
            continue;
        }
        let (k, m) = (split as f64, (n - split) as f64);
        let difference = left / k - (total - left) / m;
        let explained = k * m / n as f64 * difference.powi(2);
        if best.is_none_or(|(_, most)| explained > most) {
            best = Some((split, explained));
        }
    }
    let (split, explained) = best?;
    let unexplained = (spread - explained).max(0.0);
    if explained <= 0.0 || explained * (n as f64 - 2.0) < MIN_STATISTIC * unexplained {
        return None;
    }
    let level = |points: &[(i64, f64)]| median(points.iter().map(|(_, value)| *value));
    let (before, after) = (level(&points[..split])?, level(&points[split..])?);
    let larger = before.abs().max(after.abs());
    ((after - before).abs() >= MIN_SHARE * larger && larger > 0.0).then_some(Change {
        at: points[split].0,
        before,
        after,
    })
}

/// How long before or after the incident's begin.
pub(super) fn beside(at: i64, started_at: i64) -> String {
    match (at - started_at) / 60_000 {
        0 => "as the incident began".to_owned(),
        minutes if minutes > 0 => format!("{minutes} min after the incident began"),
        minutes => format!("{} min before the incident began", -minutes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<(i64, f64)> {
        values
            .iter()
            .enumerate()
            .map(|(minute, value)| (minute as i64 * 60_000, *value))
            .collect()
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let values = [10.0, 11.0, 9.0, 10.0, 10.5, 9.5, 30.0, 31.0, 29.0, 30.0, 30.0];
        assert_eq!(
            find(&points(&values)),
            Some(Change {
                at: 6 * 60_000,
                before: 10.0,
                after: 30.0
            })
        );
    }

    #[test]
    fn noise_and_small_steps_are_none() {
        // A sawtooth, a level that moves by a tenth, a constant, and too few points.
        let saw: Vec<f64> = (0..60).map(|i| f64::from(i * 7 % 11)).collect();
        let tenth: Vec<f64> = (0..60).map(|i| if i < 30 { 10.0 } else { 11.0 }).collect();
        for values in [&saw[..], &tenth, &[5.0; 20], &[1.0, 1.0, 9.0, 9.0]] {
            assert_eq!(find(&points(values)), None, "{values:?}");
        }
    }

    #[test]
    fn times_are_told_beside_the_incident() {
        assert_eq!(beside(0, 180_000), "3 min before the incident began");
        assert_eq!(beside(180_000, 180_001), "as the incident began");
    }
}

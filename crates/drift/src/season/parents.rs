//! How far strata are drawn towards what they belong to.

/// Most rows that the parent of a stratum counts as much as: strata that do not differ at all.
const MAX_PARENT_ROWS: f64 = 1e6;
/// Fewest rows that it counts as much as: strata that have nothing in common. One without rows still needs shares.
const MIN_PARENT_ROWS: f64 = 1.0;
/// Standard deviations of a stratum's statistic above its mean from which the stratum is judged by itself.
const FAR: f64 = 3.0;

/// Rows that a parent counts as much as for each of its strata, given their rows and the parents' shares, stratum `i` belonging to
/// parent `i mod parents`.
///
/// With strata drawn from a Dirichlet law of concentration `k` around their parent, Pearson's statistic of a stratum of `n` rows is on average
/// `(B − 1)(1 + (n − 1)/(k + 1))` (Mosimann 1962; Brier 1980, "Analysis of contingency tables under cluster sampling"). The mean over the
/// strata gives `k`. A stratum that is far from that law, such as the hour of a nightly batch, has a `k` of its own from its own
/// statistic: drawn as much as the others, it would be expected to have what only they have.
pub(super) fn parent_rows(strata: &[Vec<f64>], parents: &[Vec<f64>]) -> Vec<f64> {
    let pearson: Vec<Pearson> = strata
        .iter()
        .zip(parents.iter().cycle())
        .map(|(stratum, parent)| Pearson::new(stratum, parent))
        .collect();
    let (mut statistic, mut freedom, mut rows, mut used) = (0.0, 0.0, 0.0, 0.0);
    let mut live = vec![false; parents.len()];
    for (i, own) in pearson.iter().enumerate().filter(|(_, own)| own.rows > 0.0) {
        statistic += own.statistic;
        // The shares of each parent come from its own strata: one of them is not free.
        freedom += if std::mem::replace(&mut live[i % parents.len()], true) {
            own.freedom
        } else {
            0.0
        };
        rows += own.rows;
        used += 1.0;
    }
    let of_all = concentration(statistic, freedom, rows / used);
    let of_stratum = |own: &Pearson| {
        let spread = 1.0 + (own.rows - 1.0) / (of_all + 1.0);
        let usual = own.freedom + FAR * (2.0 * own.freedom).sqrt();
        if own.statistic > spread.max(1.0) * usual {
            concentration(own.statistic, own.freedom, own.rows).min(of_all)
        } else {
            of_all
        }
    };
    pearson.iter().map(of_stratum).collect()
}

/// Pearson's statistic of a stratum against the shares of its parent.
struct Pearson {
    statistic: f64,
    /// Bins that the parent has rows in, less one.
    freedom: f64,
    rows: f64,
}

impl Pearson {
    fn new(stratum: &[f64], parent: &[f64]) -> Self {
        let rows: f64 = stratum.iter().sum();
        let (mut statistic, mut bins) = (0.0, 0.0);
        for (count, share) in stratum.iter().zip(parent).filter(|(_, share)| **share > 0.0) {
            bins += 1.0;
            if rows > 0.0 {
                statistic += (count - rows * share).powi(2) / (rows * share);
            }
        }
        Self {
            statistic,
            freedom: bins - 1.0,
            rows,
        }
    }
}

/// The `k` at which strata of `rows` rows have this statistic on average.
fn concentration(statistic: f64, freedom: f64, rows: f64) -> f64 {
    let spare = rows - 1.0;
    // Also where there are no rows at all.
    if !(freedom > 0.0 && spare > 0.0) {
        return MAX_PARENT_ROWS;
    }
    let spread = (statistic / freedom - 1.0) / spare;
    if spread <= 0.0 {
        return MAX_PARENT_ROWS;
    }
    (1.0 / spread - 1.0).clamp(MIN_PARENT_ROWS, MAX_PARENT_ROWS)
}

/// Shares of `counts`, with `rows` more that are spread as `parent`.
pub(super) fn shrunk(counts: &[f64], parent: &[f64], rows: f64) -> Vec<f64> {
    let total = counts.iter().sum::<f64>() + rows;
    counts
        .iter()
        .zip(parent)
        .map(|(n, share)| (n + rows * share) / total)
        .collect()
}

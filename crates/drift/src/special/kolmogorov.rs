//! Laws of the Kolmogorov–Smirnov statistic: the limit, the exact one-sample and the exact two-sample law.

use std::f64::consts::PI;

/// `P(K ≥ x)` of Kolmogorov's limit law of `√n · D`.
///
/// `2 Σ (−1)^(k−1) exp(−2k²x²)` where that converges fast, and its theta-function transform below.
pub fn kolmogorov_sf(x: f64) -> f64 {
    if x <= 0.0 || x.is_nan() {
        return 1.0;
    }
    let sum_until_small = |term: &dyn Fn(f64) -> f64| {
        (1..100)
            .map(f64::from)
            .map(term)
            .take_while(|t| t.abs() > 1e-320)
            .sum::<f64>()
    };
    let p = if x >= 1.18 {
        2.0 * sum_until_small(&|k| if k % 2.0 == 1.0 { 1.0 } else { -1.0 } * (-2.0 * k * k * x * x).exp())
    } else {
        let w = PI * PI / (8.0 * x * x);
        1.0 - (2.0 * PI).sqrt() / x * sum_until_small(&|k| (-(2.0 * k - 1.0).powi(2) * w).exp())
    };
    p.clamp(0.0, 1.0)
}

/// `P(D_n ≥ d)`: the exact law of the one-sample statistic of `n` values. scipy calls it asymptotic when it uses it for two
/// samples with `n` = `round(nm/(n+m))`.
///
/// Simard and L'Ecuyer (2011): closed forms at both ends, twice the one-sided law in the upper tail, Durbin's matrix (Marsaglia,
/// Tsang, Wang 2003) for small `n·d^1.5`, and the expansion of Pelz and Good (1976), which has about ten digits, elsewhere.
pub fn ks_one_sample_sf(d: f64, n: u64) -> f64 {
    let nf = n as f64;
    let t = nf * d;
    if n == 0 || t <= 0.5 || d.is_nan() {
        return 1.0;
    }
    if d >= 1.0 {
        return 0.0;
    }
    let p = if t <= 1.0 {
        let below: f64 = (1..=n).map(|i| (i as f64 / nf).ln()).sum::<f64>() + nf * (2.0 * t - 1.0).ln();
        1.0 - below.exp()
    } else if t >= nf - 1.0 {
        2.0 * (1.0 - d).powf(nf)
    } else {
        let s = t * d;
        let upper = if n <= 140 { s > 4.0 } else { s >= 2.2 };
        if s >= 370.0 {
            0.0
        } else if d >= 0.5 || upper {
            2.0 * one_sided_sf(d, n)
        } else if n <= 140 || (n <= 100_000 && nf * d.powf(1.5) <= 1.4) {
            1.0 - durbin(d, n)
        } else {
            1.0 - pelz_good(d, nf)
        }
    };
    p.clamp(0.0, 1.0)
}

/// `P(D_n⁺ ≥ d)`: `d Σ_j C(n,j) (d + j/n)^(j−1) (1 − d − j/n)^(n−j)` (Birnbaum and Tingey 1951).
///
/// Each term is a binomial probability with mean `nd + j`, taken by Loader's saddle point, which keeps 14 digits.
fn one_sided_sf(d: f64, n: u64) -> f64 {
    let nf = n as f64;
    let mut sum = (1.0 - d).powf(nf);
    let last = (nf * (1.0 - d)).floor() as u64;
    for j in 1..=last.min(n - 1) {
        let p = d + j as f64 / nf;
        if p >= 1.0 {
            break;
        }
        sum += d / p * binomial(j as f64, nf, p);
    }
    sum
}

/// Probability of `k` in `n`, 0 < k < n, by Loader (2000), "Fast and Accurate Computation of Binomial Probabilities".
fn binomial(k: f64, n: f64, p: f64) -> f64 {
    let ln = stirling_error(n)
        - stirling_error(k)
        - stirling_error(n - k)
        - deviance(k, n * p)
        - deviance(n - k, n * (1.0 - p));
    ln.exp() * (n / (2.0 * PI * k * (n - k))).sqrt()
}

/// `ln n! − ln(√(2πn) (n/e)^n)`.
fn stirling_error(n: f64) -> f64 {
    if n <= 16.0 {
        let factorial: f64 = (1..=n as u32).map(f64::from).product();
        return factorial.ln() - (n + 0.5) * n.ln() + n - 0.5 * (2.0 * PI).ln();
    }
    let s = 1.0 / (n * n);
    (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1260.0 - s * (1.0 / 1680.0 - s / 1188.0)))) / n
}

/// `x ln(x/m) + m − x` without cancellation near `x = m`.
fn deviance(x: f64, m: f64) -> f64 {
    if (x - m).abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() + m - x;
    }
    let v = (x - m) / (x + m);
    let mut sum = (x - m) * v;
    let mut power = 2.0 * x * v;
    for j in 1..1000 {
        power *= v * v;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// `P(D_n < d)` by Durbin's matrix: `n!/nⁿ (Hⁿ)_kk` with H of order `2k − 1`, `k = ⌈nd⌉`.
fn durbin(d: f64, n: u64) -> f64 {
    let nd = n as f64 * d;
    let k = nd.ceil() as usize;
    let h = k as f64 - nd;
    let m = 2 * k - 1;
    let mut matrix = vec![0.0; m * m];
    let factorial: Vec<f64> = std::iter::once(1.0)
        .chain((1..=m).scan(1.0, |f, i| {
            *f *= i as f64;
            Some(*f)
        }))
        .collect();
    for i in 0..m {
        for j in 0..m {
            if i + 1 >= j {
                matrix[i * m + j] = 1.0 / factorial[i + 1 - j];
            }
        }
    }
    for i in 0..m {
        let edge = (1.0 - h.powi(i as i32 + 1)) / factorial[i + 1];
        matrix[i * m] = edge;
        matrix[(m - 1) * m + (m - 1 - i)] = edge;
    }
    let corner = (2.0 * h - 1.0).max(0.0).powi(m as i32);
    matrix[(m - 1) * m] = (1.0 - 2.0 * h.powi(m as i32) + corner) / factorial[m];

    let (power, mut exponent) = matrix_power(matrix, m, n, k - 1);
    let mut p = power;
    for i in 1..=n {
        p *= i as f64 / n as f64;
        if p < 1e-140 {
            p *= SCALE;
            exponent -= 1;
        }
    }
    p * SCALE.powi(exponent)
}

/// A power of two near 10^140, so that scaling loses nothing.
const SCALE: f64 = f64::from_bits((1023 + 465) << 52);

/// Element `(c, c)` of `base^n`, as a value and the number of times that [`SCALE`] was divided out.
fn matrix_power(base: Vec<f64>, m: usize, n: u64, c: usize) -> (f64, i32) {
    // Only row `c` of the product is needed: a vector times the powers.
    let mut row = vec![0.0; m];
    row[c] = 1.0;
    let (mut row_exponent, mut base_exponent) = (0, 0);
    let mut base = base;
    let mut left = n;
    loop {
        if left & 1 == 1 {
            row = (0..m)
                .map(|j| (0..m).map(|i| row[i] * base[i * m + j]).sum())
                .collect();
            row_exponent += base_exponent;
            if row[c] > 1e140 {
                row = row.into_iter().map(|x| x / SCALE).collect();
                row_exponent += 1;
            }
        }
        left >>= 1;
        if left == 0 {
            return (row[c], row_exponent);
        }
        base = square(&base, m);
        base_exponent *= 2;
        if base[c * m + c] > 1e140 {
            base = base.into_iter().map(|x| x / SCALE).collect();
            base_exponent += 1;
        }
    }
}

fn square(a: &[f64], m: usize) -> Vec<f64> {
    let mut out = vec![0.0; m * m];
    for (row, source) in out.chunks_exact_mut(m).zip(a.chunks_exact(m)) {
        for (&factor, other) in source.iter().zip(a.chunks_exact(m)) {
            for (sum, x) in row.iter_mut().zip(other) {
                *sum += factor * x;
            }
        }
    }
    out
}

/// `P(D_n ≤ d)` by the first four terms of the expansion in `n^(−1/2)` (Pelz and Good 1976).
fn pelz_good(d: f64, n: f64) -> f64 {
    const PI2: f64 = PI * PI;
    const PI4: f64 = PI2 * PI2;
    const PI6: f64 = PI4 * PI2;
    let z = n.sqrt() * d;
    let (z2, z4, z6, z8) = (z.powi(2), z.powi(4), z.powi(6), z.powi(8));
    let root = (2.0 * PI).sqrt();
    let terms = (16.0 * z / PI).ceil() as i32;
    let mut k = [0.0_f64; 4];
    for i in 1..=terms {
        let m2 = f64::from(2 * i - 1).powi(2);
        let q = (-PI2 * m2 / (8.0 * z2)).exp();
        k[0] += q;
        k[1] += q * (PI2 / 4.0 * m2 - z2);
        k[2] += q
            * (6.0 * z6
                + 2.0 * z4
                + PI2 * (2.0 * z4 - 5.0 * z2) / 4.0 * m2
                + PI4 * (1.0 - 2.0 * z2) / 16.0 * m2 * m2);
        k[3] += q
            * (PI6 * (5.0 - 30.0 * z2) / 64.0 * m2.powi(3)
                + PI4 * (-60.0 * z2 + 212.0 * z4) / 16.0 * m2 * m2
                + PI2 * (135.0 * z4 - 96.0 * z6) / 4.0 * m2
                - 30.0 * z6
                - 90.0 * z8);
    }
    k[0] *= root / z;
    k[1] *= root / (6.0 * z4);
    k[2] *= root / (72.0 * z.powi(7));
    k[3] *= root / (6480.0 * z.powi(10));
    for i in 1..=terms {
        let i2 = f64::from(i * i);
        let q = (-PI2 * i2 / (2.0 * z2)).exp();
        k[2] -= q * i2 * PI2 * root / (36.0 * z.powi(3));
        k[3] += q * (3.0 * z2 - PI2 * i2) * i2 * PI2 * root / (216.0 * z6);
    }
    k[0] + k[1] / n.sqrt() + k[2] / n + k[3] / n.powf(1.5)
}

/// `P(D_{n,m} ≥ d)`: the exact law of the two-sample statistic without ties; `None` when `n·m` is above `max_cells`.
///
/// Paths on the lattice: `B(i,j) = 1` where `|i/n − j/m| ≥ d`, else `[i·B(i−1,j) + j·B(i,j−1)]/(i+j)`. Recursing on the share of
/// paths that leave, instead of those that stay, only adds positive numbers, so that tiny values keep their digits. With ties it
/// is conservative. `O(nm)` time, `O(m)` space.
pub fn ks_two_sample_sf(d: f64, n: u64, m: u64, max_cells: u64) -> Option<f64> {
    if n == 0 || m == 0 || n.checked_mul(m)? > max_cells {
        return None;
    }
    let lcm = n / gcd(n, m) * m;
    let h = (d * lcm as f64).round() as i64;
    if h <= 0 {
        return Some(1.0);
    }
    let (step_i, step_j) = ((lcm / n) as i64, (lcm / m) as i64);
    let outside = |i: u64, j: u64| (i as i64 * step_i - j as i64 * step_j).abs() >= h;
    let mut row = vec![0.0; m as usize + 1];
    for i in 0..=n {
        let mut left = 0.0;
        for j in 0..=m {
            let cell = &mut row[j as usize];
            *cell = if outside(i, j) {
                1.0
            } else if i + j == 0 {
                0.0
            } else {
                (i as f64 * *cell + j as f64 * left) / (i + j) as f64
            };
            left = *cell;
        }
    }
    row.last().copied()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{durbin, kolmogorov_sf, ks_one_sample_sf, ks_two_sample_sf, one_sided_sf, pelz_good};

    #[test]
    fn the_one_sample_law_agrees_between_its_methods() {
        // Each pair of methods at a point where both hold.
        assert!((1.0 - durbin(0.3, 50) - 2.0 * one_sided_sf(0.3, 50)).abs() < 1e-12);
        let (exact, expansion) = (durbin(0.05, 800), pelz_good(0.05, 800.0));
        assert!((exact - expansion).abs() < 1e-6, "{exact} {expansion}");
        // By hand: two values, d = 0.6: 2 · 0.4².
        assert!((ks_one_sample_sf(0.6, 2) - 0.32).abs() < 1e-15);
    }

    #[test]
    fn the_exact_laws_approach_the_limit() {
        let n = 100_000_u64;
        let x = 1.2;
        let limit = kolmogorov_sf(x);
        assert!((ks_one_sample_sf(x / (n as f64).sqrt(), n) - limit).abs() < 2e-3);
        let two = ks_two_sample_sf(x / 300_f64.sqrt(), 600, 600, u64::MAX).expect("small enough");
        assert!((two - limit).abs() < 0.03);
    }

    #[test]
    fn tiny_two_sample_probabilities_are_counted_by_hand() {
        // Complete separation of n and m: 2 of C(n+m, n) orders.
        let p = ks_two_sample_sf(1.0, 5, 7, u64::MAX).expect("small enough");
        assert!((p - 2.0 / 792.0).abs() < 1e-16);
        assert_eq!(ks_two_sample_sf(0.5, 1000, 1000, 999_999), None);
        assert_eq!(ks_two_sample_sf(0.0, 10, 10, 100), Some(1.0));
    }
}

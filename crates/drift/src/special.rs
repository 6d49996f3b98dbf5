//! Distribution functions that the statistics need, accurate to 1e-9 relative in their tails.
//!
//! The gamma and error functions come from `statrs`. Written here: the inverse of the chi-square law (`statrs` bisects, to
//! fewer digits) and the Kolmogorov–Smirnov and Cramér–von Mises laws (it has none).

mod kolmogorov;

use std::f64::consts::{LN_2, PI, SQRT_2};

use statrs::function::erf::{erfc, erfc_inv};
use statrs::function::gamma::{gamma_lr, gamma_ur, ln_gamma};

pub use kolmogorov::{kolmogorov_sf, ks_one_sample_sf, ks_two_sample_sf};

/// `P(X ≥ x)` for X chi-square with `dof` degrees of freedom; 1 for `x ≤ 0` or no degrees of freedom.
pub fn chi2_sf(x: f64, dof: f64) -> f64 {
    if x.is_nan() || x <= 0.0 || dof <= 0.0 {
        1.0
    } else if x == f64::INFINITY {
        0.0
    } else {
        gamma_ur(dof / 2.0, x / 2.0)
    }
}

/// The value that a chi-square variable with `dof` degrees of freedom exceeds with probability `tail`.
///
/// `tail` is clamped to `[1e-300, 1]`; 0 without degrees of freedom. Newton's method on the logarithm of the smaller tail,
/// from the approximation of Wilson and Hilferty (1931), inside a bracket that shrinks.
pub fn chi2_critical(tail: f64, dof: f64) -> f64 {
    if dof <= 0.0 || tail >= 1.0 || tail.is_nan() {
        return 0.0;
    }
    let tail = tail.max(1e-300);
    let a = dof / 2.0;
    let h = 2.0 / (9.0 * dof);
    let mut x = (dof * (1.0 - h + normal_critical(tail) * h.sqrt()).powi(3)).max(1e-8 * dof);
    let (mut low, mut high) = (0.0_f64, f64::INFINITY);
    for _ in 0..200 {
        let upper = gamma_ur(a, x / 2.0);
        if upper > tail {
            low = x;
        } else {
            high = x;
        }
        let ln_density = (a - 1.0) * x.ln() - x / 2.0 - a * LN_2 - ln_gamma(a);
        // Work in the tail that is small: the other one has lost its digits.
        let step = if tail <= 0.5 {
            (upper / tail).ln() * (upper.ln() - ln_density).exp()
        } else {
            let lower = gamma_lr(a, x / 2.0);
            -(lower / (1.0 - tail)).ln() * (lower.ln() - ln_density).exp()
        };
        let mut next = x + step;
        if !(next > low && next < high) {
            next = if high.is_finite() {
                0.5 * (low + high)
            } else {
                2.0 * x
            };
        }
        if (next - x).abs() <= 1e-15 * x {
            return next;
        }
        x = next;
    }
    x
}

/// `P(Z ≥ z)` for a standard normal Z.
pub fn normal_sf(z: f64) -> f64 {
    0.5 * erfc(z / SQRT_2)
}

/// The value that a standard normal variable exceeds with probability `tail`.
pub fn normal_critical(tail: f64) -> f64 {
    // One Newton step: `erfc_inv` alone is a few digits short far out.
    let z = SQRT_2 * erfc_inv(2.0 * tail);
    let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
    if !z.is_finite() || density < 1e-290 {
        return z;
    }
    z + (normal_sf(z) - tail) / density
}

/// `P(W² ≥ x)` of the limit law of the Cramér–von Mises statistic.
///
/// Csörgő and Faraway (1996), equation 1.3, with terms added down to 1e-7: the approximation that scipy publishes its p-values by,
/// good to about seven digits and not beyond `x` = 4.
pub fn cramer_von_mises_sf(x: f64) -> f64 {
    if x < 0.003 {
        return 1.0;
    }
    let mut below = 0.0;
    for k in 0..10_000 {
        let k = f64::from(k);
        let scale = (ln_gamma(k + 0.5) - ln_gamma(k + 1.0)).exp() / (PI.powf(1.5) * x.sqrt());
        let y = 4.0 * k + 1.0;
        let q = y * y / (16.0 * x);
        let term = scale * y.sqrt() * (-q).exp() * bessel_k(0.25, q);
        below += term;
        if term < 1e-7 {
            break;
        }
    }
    (1.0 - below).max(0.0)
}

/// Modified Bessel function of the second kind, `K_ν(x) = ∫₀^∞ exp(−x cosh t) cosh(νt) dt`, for `x > 0`, `|ν| < 1`.
///
/// The trapezoidal rule is exact to rounding here: the integrand is analytic and falls doubly exponentially.
fn bessel_k(order: f64, x: f64) -> f64 {
    const STEP: f64 = 1.0 / 32.0;
    let mut sum = 0.5 * (-x).exp();
    for i in 1..1000 {
        let t = f64::from(i) * STEP;
        let term = (-x * t.cosh()).exp() * (order * t).cosh();
        sum += term;
        if term <= sum * 1e-18 {
            break;
        }
    }
    sum * STEP
}

#[cfg(test)]
mod tests {
    use super::{bessel_k, chi2_critical, chi2_sf, normal_critical, normal_sf};

    #[test]
    fn the_bessel_function_equals_its_closed_form_at_one_half() {
        for x in [1e-3_f64, 0.1, 1.0, 7.5, 40.0] {
            let exact = (std::f64::consts::PI / (2.0 * x)).sqrt() * (-x).exp();
            assert!((bessel_k(0.5, x) / exact - 1.0).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn critical_values_invert_the_tails_over_their_whole_range() {
        for dof in [1.0, 2.0, 7.0, 33.0, 300.0] {
            for tail in [1e-200, 1e-12, 1e-6, 0.01, 0.3, 0.5, 0.8, 0.999] {
                let back = chi2_sf(chi2_critical(tail, dof), dof);
                assert!((back / tail - 1.0).abs() < 1e-10, "chi2 {dof} {tail}: {back}");
            }
        }
        for tail in [1e-200, 1e-12, 0.2, 0.5, 0.999] {
            assert!(
                (normal_sf(normal_critical(tail)) / tail - 1.0).abs() < 1e-10,
                "normal {tail}"
            );
        }
    }

    #[test]
    fn ends_of_the_range_are_numbers() {
        assert_eq!(chi2_sf(-1.0, 3.0), 1.0);
        assert_eq!(chi2_sf(f64::INFINITY, 3.0), 0.0);
        assert_eq!(chi2_sf(5.0, 0.0), 1.0);
        assert_eq!(chi2_critical(1.0, 3.0), 0.0);
        assert_eq!(chi2_critical(0.01, 0.0), 0.0);
        assert!(chi2_critical(0.0, 3.0).is_finite());
    }
}

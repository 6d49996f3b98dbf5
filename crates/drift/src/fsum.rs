//! Correctly rounded sums, so that a profile does not depend on the order of the rows or on the language.

/// The exact sum of finite values, rounded once; infinite or NaN when a partial sum overflows.
///
/// Shewchuk (1997), "Adaptive Precision Floating-Point Arithmetic", as in Python's `math.fsum`, whose result it equals
/// bit for bit.
pub fn fsum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut partials: Vec<f64> = Vec::with_capacity(8);
    for value in values {
        let mut x = value;
        let mut kept = 0;
        for i in 0..partials.len() {
            let mut y = partials[i];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let hi = x + y;
            let lo = y - (hi - x);
            if lo != 0.0 {
                partials[kept] = lo;
                kept += 1;
            }
            x = hi;
        }
        if !x.is_finite() {
            return x;
        }
        partials.truncate(kept);
        partials.push(x);
    }
    round(&partials)
}

/// Sums non-overlapping partials, smallest first, with one correct rounding (half-even across partials).
fn round(partials: &[f64]) -> f64 {
    let Some((&last, mut rest)) = partials.split_last() else {
        return 0.0;
    };
    let mut hi = last;
    let mut lo = 0.0;
    while let Some((&y, smaller)) = rest.split_last() {
        rest = smaller;
        let x = hi;
        hi = x + y;
        lo = y - (hi - x);
        if lo != 0.0 {
            break;
        }
    }
    if let Some(&next) = rest.last()
        && ((lo < 0.0 && next < 0.0) || (lo > 0.0 && next > 0.0))
    {
        let y = lo * 2.0;
        let x = hi + y;
        if y == x - hi {
            hi = x;
        }
    }
    hi
}

#[cfg(test)]
mod tests {
    use super::fsum;

    #[test]
    fn sums_are_exact_where_a_loop_is_not() {
        assert_eq!(fsum([]), 0.0);
        assert_eq!(fsum([0.1; 10]), 1.0);
        assert_eq!(fsum([1e100, 1.0, -1e100]), 1.0);
        assert_eq!(fsum([1.0, 1e-16, 1e-16]), 1.000_000_000_000_000_2);
        // Half-even across partials: 1 + 2^-53 is a tie, the tiny rest breaks it upwards.
        assert_eq!(fsum([1.0, f64::EPSILON / 2.0, 1e-300]), 1.0 + f64::EPSILON);
        assert!(fsum([f64::MAX, f64::MAX]).is_infinite());
    }

    #[test]
    fn the_order_does_not_matter() {
        let up: Vec<f64> = (1..2000)
            .map(|i| f64::from(i).recip() * if i % 3 == 0 { -1e10 } else { 1.0 })
            .collect();
        let down: Vec<f64> = up.iter().rev().copied().collect();
        assert_eq!(fsum(up), fsum(down));
    }
}

//! When each request is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Rows per time, or as fast as the connections allow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// Rows per second, above 0.
    PerSecond(f64),
    /// Each connection sends as soon as it has its answer.
    Unlimited,
}

/// A text that is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected rows per second, such as 500, 500/s, 30/m, or max")]
pub(crate) struct ParseRateError;

impl Rate {
    /// Time from the start to request `number`, when each carries `batch` rows; `None` when it is due at once.
    pub(crate) fn due(self, number: u64, batch: usize) -> Option<Duration> {
        match self {
            Self::PerSecond(rows) => Some(Duration::from_secs_f64(number as f64 * batch as f64 / rows)),
            Self::Unlimited => None,
        }
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        if text == "max" {
            return Ok(Self::Unlimited);
        }
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(ParseRateError),
        };
        let rows = number.trim().parse::<f64>().map_err(|_| ParseRateError)? / seconds;
        // Slower than a row a day or faster than a clock tick is a mistake, and would overflow a `Duration`.
        if (1e-5..=1e9).contains(&rows) {
            Ok(Self::PerSecond(rows))
        } else {
            Err(ParseRateError)
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rows) => write!(f, "{rows}/s"),
            Self::Unlimited => f.write_str("max"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit_or_is_per_second() {
        let rate = |text: &str| text.parse::<Rate>();
        assert_eq!(rate("500"), Ok(Rate::PerSecond(500.0)));
        assert_eq!(rate("500/s"), Ok(Rate::PerSecond(500.0)));
        assert_eq!(rate("30 / m"), Ok(Rate::PerSecond(0.5)));
        assert_eq!(rate("max"), Ok(Rate::Unlimited));
        for wrong in ["", "0", "-5", "fast", "5/d", "inf", "NaN", "1e12", "/s"] {
            assert_eq!(rate(wrong), Err(ParseRateError), "{wrong}");
        }
    }

    #[test]
    fn requests_are_due_in_even_steps() {
        assert_eq!(Rate::PerSecond(500.0).due(100, 10), Some(Duration::from_secs(2)));
        assert_eq!(Rate::PerSecond(500.0).due(0, 10), Some(Duration::ZERO));
        assert_eq!(Rate::Unlimited.due(100, 10), None);
    }
}

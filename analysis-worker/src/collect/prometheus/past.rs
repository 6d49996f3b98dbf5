//! The same time of earlier weeks, for comparison: load follows the hour of the day and the day of the week.

use std::collections::BTreeMap;

use super::median;
use crate::drift::number;
use crate::prometheus::{Prometheus, Series, seconds};

/// How many days ago. Two of them are the same day of the week.
const DAYS: [u32; 3] = [7, 14, 30];
/// Shortest and longest time that is looked at, in minutes.
const SPAN: (i64, i64) = (15, 60);

/// Medians by labels.
type Medians = BTreeMap<BTreeMap<String, String>, f64>;

/// Medians by labels, for each of [`DAYS`].
#[derive(Debug, Default)]
pub(super) struct Past {
    days: Vec<(u32, Result<Medians, String>)>,
    /// The query for each of the days, and when it is asked.
    how: Option<String>,
}

/// Asks for the median of each series over as long as the incident has lasted, at the same time of earlier days.
pub(super) async fn ask(prometheus: &Prometheus, query: &str, started_at: i64, now: i64) -> Past {
    let span = ((now - started_at) / 60_000).clamp(SPAN.0, SPAN.1);
    let median_of = |ago: &str| format!("quantile_over_time(0.5, ({query})[{span}m:1m] offset {ago})");
    let mut past = Past {
        days: Vec::new(),
        how: Some(format!(
            "each of N days ago: {} at {}",
            median_of("Nd"),
            seconds(now)
        )),
    };
    for days in DAYS {
        let answer = prometheus.instant(&median_of(&format!("{days}d")), now).await;
        let medians = answer.map_err(|error| error.to_string()).map(|series| {
            let medians = series.into_iter().filter_map(|series| {
                let value: f64 = series.value?.1.parse().ok()?;
                value.is_finite().then_some((series.metric, value))
            });
            medians.collect()
        });
        past.days.push((days, medians));
    }
    past
}

impl Past {
    /// What a series was, beside what it is now.
    pub(super) fn line(&self, series: &Series, name: &str, now: Option<f64>) -> Option<String> {
        if self.days.is_empty() {
            return None;
        }
        let (mut parts, mut known) = (Vec::new(), Vec::new());
        for (days, medians) in &self.days {
            let value = match medians {
                Ok(medians) => medians.get(&series.metric).copied(),
                Err(error) => {
                    parts.push(format!("{days} days ago not had ({error})"));
                    continue;
                }
            };
            known.extend(value);
            let value = value.map_or_else(|| "no data".to_owned(), number);
            parts.push(format!("{days} days ago {value}"));
        }
        let beside = match (median(known), now) {
            (Some(usual), Some(now)) if usual != 0.0 => {
                format!("; now it is {} times their median", number(now / usual))
            }
            _ => String::new(),
        };
        Some(format!("{name}: same time {}{beside}", parts.join(", ")))
    }

    /// How the numbers can be had again.
    pub(super) fn how(&self) -> Option<String> {
        self.how.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_stands_beside_its_own_past() {
        let labels: BTreeMap<String, String> = [("pod".to_owned(), "a".to_owned())].into();
        let of = |value| Ok([(labels.clone(), value)].into());
        let past = Past {
            days: vec![
                (7, of(10.0)),
                (14, of(12.0)),
                (30, Err("no answer within 5s".to_owned())),
            ],
            how: None,
        };
        let series = Series {
            metric: labels.clone(),
            ..Series::default()
        };
        assert_eq!(
            past.line(&series, "pod=a", Some(30.0)).as_deref(),
            Some(
                "pod=a: same time 7 days ago 10, 14 days ago 12, 30 days ago not had (no answer within 5s); now it is 2.5 times their median"
            )
        );
        let other = past.line(&Series::default(), "all", Some(1.0));
        assert_eq!(
            other.as_deref(),
            Some(
                "all: same time 7 days ago no data, 14 days ago no data, 30 days ago not had (no answer within 5s)"
            )
        );
        assert_eq!(Past::default().line(&series, "x", None), None);
    }
}

//! How long what serves a model will be enough: from the history of its load and of the processors it took, by code.
//!
//! Hourly rates become daily peaks; their trend (`forecast`) meets what the processors at hand can answer at the target
//! use. A model may word the result; it does not make it.

mod forecast;

use std::fmt::Write as _;

use serde::Serialize;

use crate::prometheus::{Prometheus, Series, quoted};
use crate::signal::{now, rfc3339};
use forecast::{Day, Trend};

const HOUR: i64 = 3_600;
const DAY_SECONDS: f64 = 86_400.0;
/// Use of the processors at the daily peak that is still good; beyond it waiting grows faster than the load.
const TARGET_USE: f64 = 0.7;
/// Days that a forecast looks ahead.
const AHEAD: f64 = 30.0;
/// Days without which there is no trend.
const MIN_DAYS: usize = 7;

/// Why there is no advice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CapacityError {
    #[error("Prometheus: {0}")]
    Prometheus(String),
    #[error("Prometheus has no requests of {model} in the last {days} days")]
    NoRequests { model: String, days: u32 },
}

/// What the history says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Advice {
    pub(crate) model: String,
    /// RFC 3339, UTC.
    pub(crate) at: String,
    /// Whole days that have been looked at.
    pub(crate) days: usize,
    /// Highest hourly rate of the last seven days, in requests a second.
    pub(crate) peak: f64,
    /// The trend of the daily peaks; none of fewer than seven days.
    pub(crate) trend: Option<Trend>,
    /// What the peak will be in 30 days by that trend, in requests a second: between these with a probability of 90 %.
    pub(crate) expected: Option<(f64, f64)>,
    /// What the processors do; none where the model server does not export it.
    pub(crate) processors: Option<Processors>,
    /// Days until the peak is more than they can answer: by the trend, and by its steeper end. None: not in a year.
    pub(crate) days_left: Option<(Option<f64>, Option<f64>)>,
    /// What was asked.
    pub(crate) queries: Vec<String>,
}

/// What the processors of a model do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Processors {
    /// Replicas now.
    pub(crate) replicas: f64,
    /// Cores that they may use together.
    pub(crate) cores: f64,
    /// Core-seconds of one request, the median over the busy hours.
    pub(crate) per_request: f64,
    /// Requests a second that they can answer at 70 % use.
    pub(crate) enough_for: f64,
    /// Replicas for the highest peak of the last seven days.
    pub(crate) needed_now: f64,
    /// Replicas for the upper end of what is expected in 30 days.
    pub(crate) needed_then: Option<f64>,
}

/// Looks at `days` days of `model`.
///
/// # Errors
/// [`CapacityError`].
pub(crate) async fn advise(prometheus: &Prometheus, model: &str, days: u32) -> Result<Advice, CapacityError> {
    let of = format!("model={}", quoted(model));
    let rate = format!("sum(rate(plumbline_request_duration_seconds_count{{{of}}}[1h]))");
    // What a process does is known by instance, and which instances serve the model by their readiness.
    let on = |what: &str| {
        format!(
            "sum({what} * on (instance) group_left () max by (instance) (plumbline_server_model_ready{{{of}}}))"
        )
    };
    let used = on("rate(process_cpu_seconds_total[1h])");
    let cores = on("plumbline_cgroup_cpu_quota_cores");
    let replicas = format!("count(max by (instance) (plumbline_server_model_ready{{{of}}}))");

    let end = now() / (HOUR * 1_000) * HOUR * 1_000;
    let span = (end - i64::from(days) * 86_400_000, end, HOUR);
    let range = async |query: &str| {
        prometheus
            .range(query, span)
            .await
            .map_err(|error| CapacityError::Prometheus(error.to_string()))
    };
    let instant = async |query: &str| {
        let series = prometheus.instant(query, now()).await;
        let series = series.map_err(|error| CapacityError::Prometheus(error.to_string()))?;
        let value = series.first().and_then(Series::number);
        Ok::<_, CapacityError>(value.filter(|value| *value > 0.0))
    };
    let load = points(&range(&rate).await?);
    let history = forecast::daily_peaks(&load);
    if history.is_empty() || load.iter().all(|(_, rate)| *rate == 0.0) {
        return Err(CapacityError::NoRequests {
            model: crate::text::one_line(&crate::text::sanitise(model), 100),
            days,
        });
    }
    let use_of_cores = points(&range(&used).await?);
    let (cores_now, replicas_now) = (instant(&cores).await?, instant(&replicas).await?);
    let processors = per_request(&load, &use_of_cores).zip(cores_now).zip(replicas_now);
    let mut advice = assess(
        model,
        &history,
        processors.map(|((per, cores), replicas)| (per, cores, replicas)),
    );
    advice.queries = vec![rate, used, cores, replicas];
    Ok(advice)
}

fn points(series: &[Series]) -> Vec<(f64, f64)> {
    series
        .first()
        .map(|series| series.points().collect())
        .unwrap_or_default()
}

/// Core-seconds of one request: the median over the hours with at least a tenth of the highest rate, in which what a
/// process does without requests weighs little.
fn per_request(load: &[(f64, f64)], used: &[(f64, f64)]) -> Option<f64> {
    let highest = load.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let mut each: Vec<f64> = load
        .iter()
        .filter(|(_, rate)| *rate > 0.0 && *rate >= highest / 10.0)
        .filter_map(|(at, rate)| {
            let (_, used) = used.iter().find(|(when, _)| when == at)?;
            Some(used / rate)
        })
        .collect();
    forecast::median(&mut each).filter(|each| *each > 0.0)
}

/// `processors`: core-seconds of a request, cores, replicas.
fn assess(model: &str, history: &[Day], processors: Option<(f64, f64, f64)>) -> Advice {
    let recent = &history[history.len().saturating_sub(7)..];
    let peak = recent.iter().map(|day| day.peak).fold(0.0, f64::max);
    let trend = (history.len() >= MIN_DAYS)
        .then(|| forecast::trend(history))
        .flatten();
    let last = history.last().map_or(0.0, |day| day.number);
    let expected = trend.as_ref().map(|trend| trend.between(last + AHEAD));
    let processors = processors.map(|(per_request, cores, replicas)| {
        let enough_for = cores * TARGET_USE / per_request;
        let each = enough_for / replicas;
        let needed = |rate: f64| (rate / each).ceil().max(1.0);
        Processors {
            replicas,
            cores,
            per_request,
            enough_for,
            needed_now: needed(peak),
            needed_then: expected.map(|(_, high)| needed(high)),
        }
    });
    let days_left = trend
        .as_ref()
        .zip(processors)
        .map(|(trend, processors)| trend.until(processors.enough_for, last));
    Advice {
        model: model.to_owned(),
        at: rfc3339(now()),
        days: history.len(),
        peak,
        trend,
        expected,
        processors,
        days_left,
        queries: Vec::new(),
    }
}

impl Advice {
    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let model = crate::text::one_line(&crate::text::sanitise(&self.model), 100).replace('`', "'");
        let mut text = format!("## Capacity of `{model}`\n\n");
        let _ = writeln!(text, "{}\n", self.conclusion());
        let _ = writeln!(
            text,
            "- Highest hour of the last seven days: {} requests a second ({} whole days looked at).",
            figures(self.peak),
            self.days
        );
        match (&self.trend, self.expected) {
            (Some(trend), Some((low, high))) => {
                let _ = writeln!(
                    text,
                    "- Daily peaks change by {} requests a second each day (90 % interval {} to {}; Theil–Sen); in 30 days {} to {}.",
                    signed(trend.slope),
                    signed(trend.slope_low),
                    signed(trend.slope_high),
                    figures(low),
                    figures(high)
                );
            }
            _ => {
                let _ = writeln!(text, "- No trend: that takes at least {MIN_DAYS} whole days.");
            }
        }
        match &self.processors {
            Some(processors) => {
                let _ = writeln!(
                    text,
                    "- {} replicas with {} cores together; a request takes {} core-milliseconds. At {:.0} % use that is enough for {} requests a second.",
                    figures(processors.replicas),
                    figures(processors.cores),
                    figures(processors.per_request * 1e3),
                    TARGET_USE * 100.0,
                    figures(processors.enough_for)
                );
            }
            None => text.push_str(
                "- What the processors do is not known: no model server of this model exports `process_cpu_seconds_total` and `plumbline_cgroup_cpu_quota_cores`.\n",
            ),
        }
        text.push_str("\nQueries:\n\n");
        for query in &self.queries {
            let _ = writeln!(text, "- `{}`", query.replace('`', "'"));
        }
        text
    }

    /// What to do, in a sentence.
    fn conclusion(&self) -> String {
        let Some(processors) = &self.processors else {
            return "The load is known, what it takes is not: no advice about replicas.".to_owned();
        };
        if self.peak > processors.enough_for {
            return format!(
                "Too little now: the peak needs {} replicas, there are {}.",
                figures(processors.needed_now),
                figures(processors.replicas)
            );
        }
        let then = processors.needed_then.unwrap_or(processors.needed_now);
        match self.days_left {
            Some((Some(days), _)) if days <= AHEAD => format!(
                "Enough for about {days:.0} days by the trend; {} replicas will be needed in 30 days, there are {}.",
                figures(then),
                figures(processors.replicas)
            ),
            Some((_, Some(days))) if days <= AHEAD => format!(
                "Enough by the trend, but only for {days:.0} days if it is as steep as its interval allows: look again in a week.",
            ),
            _ if processors.replicas > 1.0 && then <= processors.replicas / 2.0 => format!(
                "More than enough: {} replicas would do for the next 30 days, there are {}.",
                figures(then),
                figures(processors.replicas)
            ),
            Some(_) => "Enough for the next 30 days.".to_owned(),
            None => "Enough now; how it grows is not known yet.".to_owned(),
        }
    }
}

/// Three significant digits, whole numbers as such.
fn figures(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e6 {
        return format!("{value:.0}");
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

fn signed(value: f64) -> String {
    if value >= 0.0 {
        format!("+{}", figures(value))
    } else {
        format!("−{}", figures(-value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(peaks: impl IntoIterator<Item = f64>) -> Vec<Day> {
        peaks
            .into_iter()
            .enumerate()
            .map(|(number, peak)| Day {
                number: number as f64,
                peak,
            })
            .collect()
    }

    #[test]
    fn growth_is_told_before_it_is_too_much() {
        // From 100 by 5 a day, 28 days: 235 on the last. 4 cores, 10 ms: enough for 280, reached 9 days later.
        let history = days((0..28).map(|day| 100.0 + 5.0 * f64::from(day)));
        let advice = assess("churn", &history, Some((0.01, 4.0, 2.0)));
        let processors = advice.processors.expect("known");
        assert!((processors.enough_for - 280.0).abs() < 1e-9);
        let (by_trend, _) = advice.days_left.expect("a trend");
        assert!((by_trend.expect("in a year") - 9.0).abs() < 1e-6, "{by_trend:?}");
        // In 30 days 385, of which a replica takes 140.
        assert_eq!(processors.needed_then, Some(3.0));
        assert!(
            advice.markdown().contains("Enough for about 9 days"),
            "{}",
            advice.markdown()
        );
    }

    #[test]
    fn too_little_and_more_than_enough_are_said() {
        let flat = days([50.0; 14]);
        let said = |per_request, cores, replicas| {
            assess("churn", &flat, Some((per_request, cores, replicas))).conclusion()
        };
        assert_eq!(
            said(0.1, 4.0, 4.0),
            "Too little now: the peak needs 8 replicas, there are 4."
        );
        assert_eq!(
            said(0.001, 4.0, 4.0),
            "More than enough: 1 replicas would do for the next 30 days, there are 4."
        );
        assert_eq!(said(0.01, 1.0, 1.0), "Enough for the next 30 days.");
    }

    #[test]
    fn without_a_history_there_is_no_trend() {
        let advice = assess("churn", &days([10.0; 6]), Some((0.01, 4.0, 1.0)));
        assert_eq!((advice.trend.is_none(), advice.days_left), (true, None));
        assert!(advice.markdown().contains("at least 7 whole days"));
        assert!(
            assess("churn", &days([10.0; 6]), None)
                .markdown()
                .contains("not known")
        );
    }

    #[test]
    fn a_request_costs_what_busy_hours_show() {
        let load: Vec<(f64, f64)> = (0..24)
            .map(|hour| (f64::from(hour), if hour < 12 { 1.0 } else { 100.0 }))
            .collect();
        // A tenth of a core without any request, and 10 ms for each.
        let used: Vec<(f64, f64)> = load.iter().map(|(at, rate)| (*at, 0.1 + rate * 0.01)).collect();
        let each = per_request(&load, &used).expect("known");
        assert!((each - 0.011).abs() < 1e-9, "{each}");
        assert_eq!(per_request(&load, &[]), None);
    }
}

//! Queries to Prometheus: how a model was served before the incident and how it is served now.

use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::{About, Fact, age};
use crate::drift::number;
use crate::http::{HttpClient, HttpError, encode, join};
use crate::signal::rfc3339;

/// Largest answer to one query.
const MAX_BYTES: usize = 2 << 20;
/// How far back a range goes before the incident.
const BEFORE: Duration = Duration::from_hours(1);
/// Longest range; older begins are not looked at.
const LONGEST: Duration = Duration::from_hours(24);
/// Points per series that a range asks for.
const POINTS: i64 = 60;
/// Series of one query that become lines.
const MAX_SERIES: usize = 20;

/// What is asked; `{model}` stands for the matcher.
const QUERIES: [(&str, &str); 6] = [
    (
        "request rate, 1/s",
        "sum(rate(plumbline_request_duration_seconds_count{model}[5m]))",
    ),
    (
        "share of failed requests",
        // Without failures there is no series of them: that share is 0, not unknown.
        "(sum(rate(plumbline_request_duration_seconds_count{model,code=~\"5..|2|4|8|13|14|UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED\"}[5m])) or 0 * sum(rate(plumbline_request_duration_seconds_count{model}[5m]))) / sum(rate(plumbline_request_duration_seconds_count{model}[5m]))",
    ),
    (
        "latency p50, s",
        "histogram_quantile(0.5, sum by (le) (rate(plumbline_request_duration_seconds_bucket{model}[5m])))",
    ),
    (
        "latency p99, s",
        "histogram_quantile(0.99, sum by (le) (rate(plumbline_request_duration_seconds_bucket{model}[5m])))",
    ),
    (
        "drift score, PSI",
        "max by (subject) (plumbline_drift_score{model,statistic=\"psi\"})",
    ),
    (
        "drift state, 0 stable 1 warning 2 drift",
        "max by (subject) (plumbline_drift_state{model}) > 0",
    ),
];

#[derive(Deserialize)]
struct Response {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: std::collections::BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

/// Asks every query and returns facts with what gave none.
pub(super) async fn ask(
    http: &HttpClient,
    base: &Uri,
    about: &About,
    timeout: Duration,
) -> Result<(Vec<Fact>, Vec<String>), String> {
    let now = about.started_at + age(about.started_at);
    let (start, end, step) = grid(about.started_at, now);
    let mut facts = Vec::new();
    let mut gaps = Vec::new();
    let mut failed = None;
    for (title, query) in QUERIES {
        let query = with_model(query, about.model.as_deref());
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={step}",
            encode(&query),
            seconds(start),
            seconds(end),
        );
        let uri = join(base, &path).map_err(|error| error.to_string())?;
        match range(http, uri, timeout).await {
            Ok(series) if series.is_empty() => gaps.push(format!("{title}: no series")),
            Ok(series) => facts.push(fact(title, &query, &series, about.started_at)),
            // A server that does not answer one query will not answer the next.
            Err(error @ (HttpError::Timeout(_) | HttpError::Transport(_))) if facts.is_empty() => {
                failed = Some(error.to_string());
                break;
            }
            Err(error) => gaps.push(format!("{title}: {error}")),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok((facts, gaps)),
    }
}

/// Start and end of a range in milliseconds and its step in seconds, from before the incident to now.
fn grid(incident: i64, now: i64) -> (i64, i64, i64) {
    let longest = now - LONGEST.as_millis() as i64;
    let start = (incident - BEFORE.as_millis() as i64).max(longest);
    let step = ((now - start) / 1000 / POINTS).max(15);
    // Prometheus counts steps from the start: the last one must be now, to the millisecond, for what matters has
    // just changed, and a whole second earlier it may not have been scraped.
    let step_millis = step * 1000;
    (now - (now - start) / step_millis * step_millis, now, step)
}

/// Milliseconds as the seconds that Prometheus takes.
fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

async fn range(http: &HttpClient, uri: Uri, timeout: Duration) -> Result<Vec<Series>, HttpError> {
    let body = http.get(uri, timeout, MAX_BYTES).await?;
    let response: Response = serde_json::from_slice(&body)
        .map_err(|error| HttpError::Transport(format!("not an answer of Prometheus: {error}")))?;
    Ok(response.data.result)
}

fn with_model(query: &str, model: Option<&str>) -> String {
    let Some(model) = model else {
        return query.replace("{model,", "{").replace("{model}", "");
    };
    // PromQL escapes like Go.
    let escaped = model
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    let matcher = format!("model=\"{escaped}\"");
    query
        .replace("{model,", &format!("{{{matcher},"))
        .replace("{model}", &format!("{{{matcher}}}"))
}

fn fact(title: &str, query: &str, series: &[Series], started_at: i64) -> Fact {
    let mut rows: Vec<(f64, String)> = series
        .iter()
        .filter_map(|series| row(series, started_at))
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut lines: Vec<String> = rows
        .iter()
        .take(MAX_SERIES)
        .map(|(_, line)| line.clone())
        .collect();
    if rows.len() > MAX_SERIES {
        lines.push(format!("{} more series left out", rows.len() - MAX_SERIES));
    }
    lines.push(format!(
        "before and after {}; query: {query}",
        rfc3339(started_at)
    ));
    Fact {
        title: format!("Prometheus: {title}"),
        content: lines.join("\n"),
    }
}

/// One series: its labels, its median before the incident, and the last value with the extremes since.
fn row(series: &Series, started_at: i64) -> Option<(f64, String)> {
    let begin = started_at as f64 / 1000.0;
    let values = |wanted: fn(f64, f64) -> bool| -> Vec<f64> {
        let parsed = series.values.iter().filter(|(at, _)| wanted(*at, begin));
        parsed
            .filter_map(|(_, value)| value.parse().ok())
            .filter(|value: &f64| value.is_finite())
            .collect()
    };
    let mut before = values(|at, begin| at < begin);
    before.sort_by(f64::total_cmp);
    let since = values(|at, begin| at >= begin);
    let median = before.get(before.len() / 2).copied();
    let last = since.last().copied();
    let labels: Vec<String> = series
        .metric
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let name = if labels.is_empty() {
        "all".to_owned()
    } else {
        labels.join(",")
    };
    let show = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), number);
    let low = since.iter().copied().min_by(f64::total_cmp);
    let high = since.iter().copied().max_by(f64::total_cmp);
    let line = format!(
        "{name}: median before {}, now {}, since then {} to {}",
        show(median),
        show(last),
        show(low),
        show(high)
    );
    let key = last.or(median)?;
    Some((key, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_name_cannot_leave_its_quotes() {
        let query = with_model(QUERIES[4].1, Some("a\"} or up{x=\"\\"));
        assert_eq!(
            query,
            r#"max by (subject) (plumbline_drift_score{model="a\"} or up{x=\"\\",statistic="psi"})"#
        );
        assert_eq!(
            with_model(QUERIES[0].1, None),
            "sum(rate(plumbline_request_duration_seconds_count[5m]))"
        );
    }

    #[test]
    fn the_last_point_of_a_range_is_now() {
        for (incident, now) in [
            (100_000_000, 100_000_001),
            (100_000_000, 103_607_999),
            (100_000_000, 999_999_123),
        ] {
            let (start, end, step) = grid(incident, now);
            assert_eq!((end, (end - start) % (step * 1000)), (now, 0));
            assert!(
                start < end && (end - start) / (step * 1000) <= POINTS,
                "{start} to {end} by {step}"
            );
        }
        assert_eq!(seconds(100_000_001), "100000.001");
    }

    #[test]
    fn a_series_tells_before_and_now() {
        let series = Series {
            metric: [("subject".to_owned(), "tenure".to_owned())].into(),
            values: [
                (10.0, "1"),
                (20.0, "3"),
                (30.0, "2"),
                (40.0, "NaN"),
                (100.0, "7"),
                (110.0, "9"),
                (120.0, "8"),
            ]
            .map(|(at, value)| (at, value.to_owned()))
            .to_vec(),
        };
        let (_, line) = row(&series, 90_000).expect("values");
        assert_eq!(line, "subject=tenure: median before 2, now 8, since then 7 to 9");
    }
}

//! Queries to Prometheus: how a model was served before the incident, how it is served now, and how it was at the same
//! time of earlier weeks. Every number comes with the query that gives it.

mod change;
mod past;
mod queries;

use http::Uri;
use tokio::task::JoinSet;

use super::{About, Fact, Place, age};
use crate::config::Sources;
use crate::drift::number;
use crate::http::{HttpClient, HttpError};
use crate::prometheus::{Prometheus, Series, millis};
use crate::signal::rfc3339;
use queries::Query;

/// How far back a range goes before the incident, in milliseconds.
const BEFORE: i64 = 60 * 60_000;
/// Longest range, in milliseconds; older begins are not looked at.
const LONGEST: i64 = 24 * 60 * 60_000;
/// Points per series that a range asks for.
const POINTS: i64 = 60;
/// Series of one query that become lines.
const MAX_SERIES: usize = 20;
/// Series of one query that are looked at for a change.
const MAX_CHANGES: usize = 5;

/// Asks every query and returns facts with what gave none.
pub(super) async fn ask(
    http: &HttpClient,
    base: &Uri,
    about: &About,
    place: &Place,
    sources: &Sources,
) -> Result<(Vec<Fact>, Vec<String>), String> {
    let prometheus = Prometheus::new(http.clone(), base.clone(), sources.timeout);
    let now = about.started_at + age(about.started_at);
    let queries = queries::all(about.model.as_deref(), place);
    let mut asked = JoinSet::new();
    for (index, query) in queries.iter().cloned().enumerate() {
        let (prometheus, started_at) = (prometheus.clone(), about.started_at);
        asked.spawn(async move { (index, one(&prometheus, &query, started_at, now).await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    let (mut facts, mut gaps, mut silent) = (Vec::new(), Vec::new(), None);
    let all = answers.len();
    for (index, answer) in answers {
        let title = queries[index].title;
        match answer {
            Ok(Some(fact)) => facts.push(fact),
            Ok(None) => gaps.push(format!("{title}: no series")),
            Err(error) => {
                silent.get_or_insert_with(|| error.to_string());
                gaps.push(format!("{title}: {error}"));
            }
        }
    }
    match silent {
        // A server that answers nothing has one fault, not one for each query.
        Some(error)
            if facts.is_empty() && gaps.len() == all && gaps.iter().all(|gap| gap.ends_with(&error)) =>
        {
            Err(error)
        }
        _ => Ok((facts, gaps)),
    }
}

/// What one query says of the time around the incident.
async fn one(
    prometheus: &Prometheus,
    query: &Query,
    started_at: i64,
    now: i64,
) -> Result<Option<Fact>, HttpError> {
    let series = prometheus.range(&query.text, grid(started_at, now)).await?;
    if series.is_empty() {
        return Ok(None);
    }
    let past = past::ask(prometheus, &query.text, started_at, now).await;
    Ok(Some(fact(query, &series, &past, started_at)))
}

/// Start and end of a range in milliseconds and its step in seconds, from before the incident to now.
fn grid(incident: i64, now: i64) -> (i64, i64, i64) {
    let start = (incident - BEFORE).max(now - LONGEST);
    let step = ((now - start) / 1000 / POINTS).max(15);
    // Prometheus counts steps from the start: the last one must be now, to the millisecond, for what matters has
    // just changed, and a whole second earlier it may not have been scraped.
    let step_millis = step * 1000;
    (now - (now - start) / step_millis * step_millis, now, step)
}

fn fact(query: &Query, series: &[Series], past: &past::Past, started_at: i64) -> Fact {
    let mut rows: Vec<(f64, Vec<String>)> = series
        .iter()
        .filter_map(|series| row(series, past, started_at))
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let more = rows.len().saturating_sub(MAX_SERIES);
    let mut lines: Vec<String> = rows
        .into_iter()
        .take(MAX_SERIES)
        .enumerate()
        // The first two lines of a series are its values; a change is told of the largest only.
        .flat_map(|(rank, (_, lines))| lines.into_iter().take(if rank < MAX_CHANGES { 3 } else { 2 }))
        .collect();
    if more > 0 {
        lines.push(format!("{more} more series left out"));
    }
    lines.push(format!(
        "before and after {}; query: {}",
        rfc3339(started_at),
        query.text
    ));
    lines.extend(past.how());
    Fact {
        title: format!("Prometheus: {}", query.title),
        content: lines.join("\n"),
    }
}

/// One series: its labels, its median before the incident, and the last value with the extremes since; the same time of
/// earlier weeks; when it changed.
fn row(series: &Series, past: &past::Past, started_at: i64) -> Option<(f64, Vec<String>)> {
    let values: Vec<(i64, f64)> = series
        .values
        .iter()
        .filter_map(|(at, value)| Some((millis(*at), value.parse().ok()?)))
        .filter(|(_, value): &(i64, f64)| value.is_finite())
        .collect();
    let (before, since): (Vec<_>, Vec<_>) = values.iter().partition(|(at, _)| *at < started_at);
    let before = median(before.into_iter().map(|(_, value)| value));
    let since: Vec<f64> = since.into_iter().map(|(_, value)| value).collect();
    let last = since.last().copied();
    let name = name(series);
    let show = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), number);
    let low = since.iter().copied().min_by(f64::total_cmp);
    let high = since.iter().copied().max_by(f64::total_cmp);
    let mut lines = vec![format!(
        "{name}: median before {}, now {}, since then {} to {}",
        show(before),
        show(last),
        show(low),
        show(high)
    )];
    lines.extend(past.line(series, &name, last));
    if let Some(change) = change::find(&values) {
        lines.push(format!(
            "{name}: changed at {} from {} to {} ({})",
            rfc3339(change.at),
            number(change.before),
            number(change.after),
            change::beside(change.at, started_at)
        ));
    }
    Some((last.or(before)?, lines))
}

/// The labels of a series.
fn name(series: &Series) -> String {
    let labels: Vec<String> = series
        .metric
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if labels.is_empty() {
        "all".to_owned()
    } else {
        labels.join(",")
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            value: None,
        };
        let (_, lines) = row(&series, &past::Past::default(), 90_000).expect("values");
        assert_eq!(
            lines,
            ["subject=tenure: median before 2, now 8, since then 7 to 9"]
        );
    }
}

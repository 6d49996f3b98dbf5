//! Lines of Loki around the incident, cut down to those that tell most.

use std::fmt::Write as _;

use http::Request;
use http_body_util::Full;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::logs::{self, Log};
use super::{About, Fact, Place, age};
use crate::config::{LokiSource, Sources};
use crate::http::{HttpClient, encode, join};
use crate::prometheus::quoted;
use crate::redact::Redactor;
use crate::text::one_line;

/// Lines of one answer: Loki's own limit by default.
const MAX_LINES: usize = 5_000;
/// Largest answer.
const MAX_BYTES: usize = 16 << 20;
/// How long after its begin lines of an old incident are read, in milliseconds.
const AFTER: i64 = 60 * 60_000;

#[derive(Deserialize)]
struct Response {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    /// Nanoseconds since 1970, and the line; newer versions add a third field.
    values: Vec<Vec<serde_json::Value>>,
}

/// The fact, and how many values were taken out of it.
pub(super) async fn ask(
    http: &HttpClient,
    loki: &LokiSource,
    about: &About,
    place: &Place,
    sources: &Sources,
    redactor: &Redactor,
) -> Result<(Fact, u64), String> {
    let query = query(&loki.query, about, place)?;
    let since = sources.logs_since(about.started_at);
    let until = (about.started_at + age(about.started_at)).min(about.started_at + AFTER);
    let path = format!(
        "/loki/api/v1/query_range?query={}&start={since}000000&end={until}000000&limit={MAX_LINES}&direction=backward",
        encode(&query),
    );
    let uri = join(&loki.url, &path).map_err(|error| error.to_string())?;
    let mut request = Request::get(uri).header(http::header::ACCEPT, "application/json");
    if let Some(tenant) = &loki.tenant {
        request = request.header("x-scope-orgid", tenant);
    }
    let request = request.body(Full::default()).map_err(|error| error.to_string())?;
    let answer = http
        .send(request, sources.timeout, MAX_BYTES)
        .await
        .map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        let said = one_line(&String::from_utf8_lossy(&answer.body), 160);
        return Err(format!(
            "status {}: {said}; query: {query}",
            answer.status.as_u16()
        ));
    }
    let response: Response =
        serde_json::from_slice(&answer.body).map_err(|error| format!("not an answer of Loki: {error}"))?;
    let text = text(response.data.result);
    if text.is_empty() {
        return Err(format!("no lines; query: {query}"));
    }
    let lines = text.lines().count();
    let (budget, redactor) = (sources.log_budget, redactor.clone());
    let fitted = spawn_blocking(move || {
        let mut redaction = redactor.begin([]);
        let log = Log {
            name: "of Loki".to_owned(),
            text,
            skipped: 0,
            since: None,
        };
        (logs::fit(log, budget, &mut redaction), redaction.count())
    });
    let (fitted, redactions) = fitted.await.map_err(|error| format!("reading failed: {error}"))?;
    let mut fact = fitted?;
    let _ = write!(fact.content, "\nquery: {query}");
    if lines >= MAX_LINES {
        let _ = write!(fact.content, "\nonly the newest {MAX_LINES} lines were asked for");
    }
    Ok((fact, redactions))
}

/// The query with what is known of the place; each placeholder becomes a quoted text.
fn query(template: &str, about: &About, place: &Place) -> Result<String, String> {
    let pods = match place.pods.as_slice() {
        [] => place.inference_service.as_ref().map(|name| format!("{name}-.*")),
        pods => Some(pods.join("|")),
    };
    let known = [
        ("$namespace", place.namespace.clone()),
        ("$pods", pods),
        ("$model", about.model.clone()),
    ];
    let mut query = template.to_owned();
    for (name, value) in known {
        if query.contains(name) {
            let value = value
                .ok_or_else(|| format!("the incident tells no {}, which loki_query asks for", &name[1..]))?;
            query = query.replace(name, &quoted(&value));
        }
    }
    Ok(query)
}

/// Lines of all streams in the order of time, each with its time before it.
fn text(streams: Vec<Stream>) -> String {
    let mut lines: Vec<(i128, String)> = streams
        .into_iter()
        .flat_map(|stream| stream.values)
        .filter_map(|value| {
            let at = value.first()?.as_str()?.parse().ok()?;
            Some((at, value.get(1)?.as_str()?.to_owned()))
        })
        .collect();
    lines.sort_by_key(|(at, _)| *at);
    let mut text = String::new();
    for (at, line) in lines {
        if let Ok(at) = jiff::Timestamp::from_nanosecond(at) {
            let _ = write!(text, "{at} ");
        }
        text.push_str(line.trim_end_matches('\n'));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        let about = About {
            kind: "X".to_owned(),
            model: Some("a\"} |= `x".to_owned()),
            started_at: 0,
        };
        let place = Place {
            namespace: Some("models".to_owned()),
            pods: vec!["churn-0".to_owned(), "churn-1".to_owned()],
            ..Place::default()
        };
        assert_eq!(
            query("{namespace=$namespace, pod=~$pods}", &about, &place).as_deref(),
            Ok(r#"{namespace="models", pod=~"churn-0|churn-1"}"#)
        );
        assert_eq!(
            query("{app=$model}", &about, &place).as_deref(),
            Ok(r#"{app="a\"} |= `x"}"#)
        );
        let error = query("{namespace=$namespace}", &about, &Place::default()).expect_err("unknown");
        assert!(error.contains("tells no namespace"), "{error}");
    }

    #[test]
    fn streams_become_one_log() {
        let stream = |values: serde_json::Value| Stream {
            values: serde_json::from_value(values).expect("values"),
        };
        let text = text(vec![
            stream(serde_json::json!([["2000000000", "b\n"], ["4000000000", "d"]])),
            stream(serde_json::json!([["3000000000", "c", {"trace": "x"}]])),
        ]);
        assert_eq!(
            text,
            "1970-01-01T00:00:02Z b\n1970-01-01T00:00:03Z c\n1970-01-01T00:00:04Z d\n"
        );
    }
}

//! Prometheus' query API.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::{HttpClient, HttpError, encode, join};

/// Largest answer to one query.
const MAX_BYTES: usize = 8 << 20;

/// A server that is asked. Cloned freely.
#[derive(Clone, Debug)]
pub(crate) struct Prometheus {
    http: HttpClient,
    base: Uri,
    /// For each query.
    timeout: Duration,
}

/// One series of an answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Series {
    #[serde(default)]
    pub(crate) metric: BTreeMap<String, String>,
    /// Seconds since 1970 and the value, as text; of an instant vector this is empty and `value` is there.
    #[serde(default)]
    pub(crate) values: Vec<(f64, String)>,
    #[serde(default)]
    pub(crate) value: Option<(f64, String)>,
}

/// What is known of an alerting rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AlertRule {
    pub(crate) name: String,
    /// How often it is evaluated.
    pub(crate) interval: Duration,
    /// As they are written, templates and all.
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Response<T> {
    data: T,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    /// Seconds.
    interval: f64,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Prometheus {
    pub(crate) fn new(http: HttpClient, base: Uri, timeout: Duration) -> Self {
        Self { http, base, timeout }
    }

    /// Values of `query` from `start` to `end`, in milliseconds since 1970, one in `step` seconds.
    ///
    /// # Errors
    /// [`HttpError`]; the message has what Prometheus said.
    pub(crate) async fn range(
        &self,
        query: &str,
        (start, end, step): (i64, i64, i64),
    ) -> Result<Vec<Series>, HttpError> {
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={step}",
            encode(query),
            seconds(start),
            seconds(end),
        );
        Ok(self.get::<Answer>(&path).await?.result)
    }

    /// What `query` comes to at `at`, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub(crate) async fn instant(&self, query: &str, at: i64) -> Result<Vec<Series>, HttpError> {
        let path = format!("/api/v1/query?query={}&time={}", encode(query), seconds(at));
        Ok(self.get::<Answer>(&path).await?.result)
    }

    /// Every alerting rule.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub(crate) async fn alert_rules(&self) -> Result<Vec<AlertRule>, HttpError> {
        let groups: Groups = self.get("/api/v1/rules?type=alert").await?;
        let rules = groups.groups.into_iter().flat_map(|group| {
            let interval = Duration::try_from_secs_f64(group.interval).unwrap_or_default();
            group.rules.into_iter().map(move |rule| AlertRule {
                name: rule.name,
                interval,
                annotations: rule.annotations,
            })
        });
        Ok(rules.collect())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        let uri = join(&self.base, path)?;
        let body = self.http.get(uri, self.timeout, MAX_BYTES).await?;
        let response: Response<T> = serde_json::from_slice(&body)
            .map_err(|error| HttpError::Transport(format!("not an answer of Prometheus: {error}")))?;
        Ok(response.data)
    }
}

/// Milliseconds as the seconds that Prometheus takes.
pub(crate) fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

/// The time of a sample in milliseconds since 1970.
pub(crate) fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// A label's value as PromQL and LogQL quote it: like Go.
pub(crate) fn quoted(value: &str) -> String {
    let escaped = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_to_the_millisecond() {
        assert_eq!(seconds(1_795_384_800_001), "1795384800.001");
        assert_eq!(millis(1_795_384_800.001), 1_795_384_800_001);
    }

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"} or up{x=\"\\"), r#""a\"} or up{x=\"\\""#);
    }
}

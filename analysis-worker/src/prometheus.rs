//! Prometheus' query API.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::Sources;
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

impl Series {
    /// Its values over a range that are numbers, oldest first: seconds since 1970 and value.
    pub(crate) fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let parsed = self
            .values
            .iter()
            .filter_map(|(at, value)| Some((*at, value.parse().ok()?)));
        parsed.filter(|(_, value): &(f64, f64)| value.is_finite())
    }

    /// Its value at one time, when that is a number.
    pub(crate) fn number(&self) -> Option<f64> {
        let value: f64 = self.value.as_ref()?.1.parse().ok()?;
        value.is_finite().then_some(value)
    }
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
    /// The one that the settings name, if any.
    pub(crate) fn configured(sources: &Sources, http: HttpClient) -> Option<Self> {
        let base = sources.prometheus.clone()?;
        Some(Self::new(http, base, sources.timeout))
    }

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

    /// The values of `label` among the series that `selector` names, sorted.
    ///
    /// # Errors
    /// As [`Self::range`].
    pub(crate) async fn label_values(&self, label: &str, selector: &str) -> Result<Vec<String>, HttpError> {
        let path = format!("/api/v1/label/{label}/values?match%5B%5D={}", encode(selector));
        let mut values: Vec<String> = self.get(&path).await?;
        values.sort();
        Ok(values)
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

/// A label's value as `PromQL` and `LogQL` quote it: like Go.
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

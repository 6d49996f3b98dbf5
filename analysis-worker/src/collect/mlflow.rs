//! Where a model comes from, as MLflow has it: the version that serves, the run that made it, what the version before was
//! like, and which features matter. REST API 2.0.

mod wire;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::Request;
use http::header::{ACCEPT, AUTHORIZATION};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Fact;
use crate::config::{MlflowSource, Sources};
use crate::drift::number;
use crate::http::{HttpClient, encode, join};
use crate::signal::rfc3339;
use crate::text::one_line;
use wire::{Alias, RegisteredModel, Run, RunAnswer, Version, Versions};

/// Largest answer of the API.
const MAX_BYTES: usize = 4 << 20;
/// Largest profile that is read.
const MAX_PROFILE: usize = 16 << 20;
/// Versions that are looked at.
const MAX_VERSIONS: usize = 10;
/// Metrics, parameters and tags that are shown, of each.
const MAX_VALUES: usize = 60;
/// Features that are shown.
const MAX_FEATURES: usize = 20;
/// The reference profile, where a training puts it beside the model.
const PROFILES: [&str; 3] = ["profile.json", "model/profile.json", "artifacts/profile.json"];

/// Asks MLflow.
struct Mlflow<'a> {
    http: &'a HttpClient,
    source: &'a MlflowSource,
    sources: &'a Sources,
}

/// What MLflow knows of a model; `version` is the one that the alert names.
pub(super) async fn ask(
    http: &HttpClient,
    source: &MlflowSource,
    model: &str,
    version: Option<&str>,
    sources: &Sources,
) -> Result<(Vec<Fact>, Vec<String>), String> {
    let mlflow = Mlflow {
        http,
        source,
        sources,
    };
    let (mut facts, mut gaps) = (Vec::new(), Vec::new());
    let path = format!("/api/2.0/mlflow/registered-models/get?name={}", encode(model));
    let registered: RegisteredModel = mlflow.get(&path).await?;
    let aliases = registered.registered_model.aliases;
    let versions = mlflow.versions(model).await?;
    let Some(index) = serving(&versions, &aliases, &source.alias, version) else {
        return Err(format!("the registered model {model} has no version"));
    };
    let (current, before) = (&versions[index], versions.get(index + 1));
    let run = mlflow.run(&current.run_id).await;
    let run_before = match before {
        Some(before) => mlflow.run(&before.run_id).await.ok(),
        None => None,
    };
    facts.push(lineage(model, &versions, index, &aliases));
    match run {
        Ok(run) => {
            let before = before.zip(run_before.as_ref());
            facts.push(self::run(
                current,
                &run,
                before.map(|(version, run)| (version.number.as_str(), run)),
            ));
        }
        Err(error) => gaps.push(format!("run of version {}: {error}", current.number)),
    }
    match mlflow.importances(&current.run_id).await {
        Ok(Some(fact)) => facts.push(fact),
        Ok(None) => gaps.push(format!(
            "feature importances: the run has no {} with importances",
            PROFILES.join(" or ")
        )),
        Err(error) => gaps.push(format!("feature importances: {error}")),
    }
    Ok((facts, gaps))
}

/// Index of the version that serves: the one that is named, the one with the alias, or the newest.
fn serving(versions: &[Version], aliases: &[Alias], alias: &str, named: Option<&str>) -> Option<usize> {
    let position = |wanted: &str| versions.iter().position(|version| version.number == wanted);
    let by_alias = || {
        let alias = aliases.iter().find(|known| known.alias == alias)?;
        position(&alias.version)
    };
    named
        .and_then(position)
        .or_else(by_alias)
        .or(if versions.is_empty() { None } else { Some(0) })
}

impl Mlflow<'_> {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let body = self.read(path, MAX_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| format!("not an answer of MLflow: {error}"))
    }

    async fn read(&self, path: &str, max_bytes: usize) -> Result<bytes::Bytes, String> {
        let uri = join(&self.source.url, path).map_err(|error| error.to_string())?;
        let mut request = Request::get(uri).header(ACCEPT, "application/json");
        if let Some(token) = &self.source.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let answer = self
            .http
            .send(request, self.sources.timeout, max_bytes)
            .await
            .map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = said["message"].as_str().unwrap_or("no message");
        Err(format!(
            "status {}: {}",
            answer.status.as_u16(),
            one_line(said, 160)
        ))
    }

    /// The newest versions, newest first.
    async fn versions(&self, model: &str) -> Result<Vec<Version>, String> {
        // MLflow's filters know no escapes.
        let quote = match (model.contains('\''), model.contains('"')) {
            (false, _) => '\'',
            (true, false) => '"',
            (true, true) => return Err("the model's name has both kinds of quotes".to_owned()),
        };
        let filter = encode(&format!("name={quote}{model}{quote}"));
        let path = format!(
            "/api/2.0/mlflow/model-versions/search?filter={filter}&max_results={MAX_VERSIONS}&order_by={}",
            encode("version_number DESC")
        );
        let mut versions = self.get::<Versions>(&path).await?.model_versions;
        let number = |version: &Version| version.number.parse::<u64>().unwrap_or(0);
        versions.sort_by_key(|version| std::cmp::Reverse(number(version)));
        Ok(versions)
    }

    async fn run(&self, id: &str) -> Result<Run, String> {
        if id.is_empty() {
            return Err("the version names no run".to_owned());
        }
        let path = format!("/api/2.0/mlflow/runs/get?run_id={}", encode(id));
        Ok(self.get::<RunAnswer>(&path).await?.run)
    }

    async fn importances(&self, run: &str) -> Result<Option<Fact>, String> {
        if run.is_empty() {
            return Ok(None);
        }
        let mut problem = None;
        for profile in PROFILES {
            let path = format!("/get-artifact?path={}&run_uuid={}", encode(profile), encode(run));
            match self.read(&path, MAX_PROFILE).await {
                Ok(body) => match importances(profile, &body)? {
                    Some(fact) => return Ok(Some(fact)),
                    None => return Ok(None),
                },
                Err(error) if error.starts_with("status 404") || error.starts_with("status 500") => {}
                Err(error) => {
                    problem.get_or_insert(error);
                }
            }
        }
        problem.map_or(Ok(None), Err)
    }
}

/// Versions with their aliases, and which one serves.
fn lineage(model: &str, versions: &[Version], index: usize, aliases: &[Alias]) -> Fact {
    let lines: Vec<String> = versions
        .iter()
        .enumerate()
        .map(|(at, version)| {
            let aliases: Vec<&str> = aliases
                .iter()
                .filter(|alias| alias.version == version.number)
                .map(|alias| alias.alias.as_str())
                .collect();
            let tags: Vec<String> = version
                .tags
                .iter()
                .map(|tag| format!("{}={}", tag.key, tag.value))
                .collect();
            let mut line = format!(
                "version {}{}: {}, registered {}, run {}, source {}",
                version.number,
                if at == index {
                    " (taken for the one that serves)"
                } else {
                    ""
                },
                version.status,
                time(&version.creation_timestamp),
                version.run_id,
                version.source,
            );
            for (what, values) in [("aliases", aliases.join(" ")), ("tags", tags.join(" "))] {
                if !values.is_empty() {
                    let _ = write!(line, ", {what} {values}");
                }
            }
            if !version.description.is_empty() {
                let _ = write!(line, ": {}", one_line(&version.description, 200));
            }
            line
        })
        .collect();
    Fact {
        title: format!("MLflow: versions of {model}"),
        content: lines.join("\n"),
    }
}

/// The run that made a version, its metrics beside those of the version before.
fn run(version: &Version, run: &Run, before: Option<(&str, &Run)>) -> Fact {
    let info = &run.info;
    let mut lines = vec![format!(
        "run {} {}: {}, {} to {}",
        version.run_id,
        info.run_name,
        info.status,
        time(&info.start_time),
        time(&info.end_time)
    )];
    let metrics = |run: &Run| -> BTreeMap<String, String> {
        let values = run.data.metrics.iter();
        values
            .map(|metric| (metric.key.clone(), value(&metric.value)))
            .collect()
    };
    let old = before.map(|(version, run)| (version, metrics(run)));
    for (name, value) in metrics(run).into_iter().take(MAX_VALUES) {
        let beside = old.as_ref().and_then(|(version, metrics)| {
            let old = metrics.get(&name)?;
            Some(format!(" (version {version}: {old})"))
        });
        lines.push(format!("metric {name}: {value}{}", beside.unwrap_or_default()));
    }
    let params = |run: &Run| -> BTreeMap<String, String> {
        let pairs = run.data.params.iter();
        pairs
            .map(|pair| (pair.key.clone(), one_line(&pair.value, 160)))
            .collect()
    };
    let old = before.map(|(version, run)| (version, params(run)));
    for (name, value) in params(run).into_iter().take(MAX_VALUES) {
        let beside = old
            .as_ref()
            .and_then(|(version, params)| match params.get(&name) {
                Some(old) if *old == value => None,
                Some(old) => Some(format!(" (version {version}: {old})")),
                None => Some(format!(" (version {version}: not set)")),
            });
        lines.push(format!("parameter {name}: {value}{}", beside.unwrap_or_default()));
    }
    for tag in run.data.tags.iter().take(MAX_VALUES) {
        // MLflow's own tags: only where the code came from.
        let own = tag.key.starts_with("mlflow.") && !tag.key.starts_with("mlflow.source");
        if !own {
            lines.push(format!("tag {}: {}", tag.key, one_line(&tag.value, 160)));
        }
    }
    Fact {
        title: format!("MLflow: run of version {}", version.number),
        content: lines.join("\n"),
    }
}

/// Which features matter, from the reference profile that was logged with the run.
fn importances(path: &str, body: &[u8]) -> Result<Option<Fact>, String> {
    let profile: Value =
        serde_json::from_slice(body).map_err(|error| format!("{path} is not JSON: {error}"))?;
    let mut importances: Vec<(String, f64)> = profile["importances"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| Some((item["feature"].as_str()?.to_owned(), item["importance"].as_f64()?)))
        .filter(|(_, importance)| importance.is_finite() && *importance >= 0.0)
        .collect();
    let total: f64 = importances.iter().map(|(_, importance)| importance).sum();
    if total <= 0.0 {
        return Ok(None);
    }
    importances.sort_by(|a, b| b.1.total_cmp(&a.1));
    let more = importances.len().saturating_sub(MAX_FEATURES);
    let mut lines: Vec<String> = importances
        .iter()
        .take(MAX_FEATURES)
        .map(|(feature, importance)| format!("{feature}: {:.1} % of all", importance / total * 100.0))
        .collect();
    if more > 0 {
        lines.push(format!("{more} more features"));
    }
    lines.push(format!("from {path} of the run"));
    Ok(Some(Fact {
        title: "MLflow: feature importances".to_owned(),
        content: lines.join("\n"),
    }))
}

/// Milliseconds since 1970, as a number or a text.
fn time(value: &Value) -> String {
    let millis = value
        .as_i64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .filter(|at| *at > 0);
    millis.map_or_else(|| "unknown".to_owned(), rfc3339)
}

fn value(value: &Value) -> String {
    match value {
        Value::Number(found) => found.as_f64().map_or_else(|| found.to_string(), number),
        Value::String(text) => text.clone(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(number: &str) -> Version {
        serde_json::from_value(json!({"name": "churn", "version": number, "run_id": "r"})).expect("a version")
    }

    #[test]
    fn the_version_that_serves_is_named_has_the_alias_or_is_the_newest() {
        let versions = [version("3"), version("2"), version("1")];
        let aliases: Vec<Alias> =
            serde_json::from_value(json!([{"alias": "champion", "version": "2"}])).expect("aliases");
        assert_eq!(serving(&versions, &aliases, "champion", Some("1")), Some(2));
        assert_eq!(serving(&versions, &aliases, "champion", Some("9")), Some(1));
        assert_eq!(serving(&versions, &aliases, "production", None), Some(0));
        assert_eq!(serving(&[], &aliases, "champion", None), None);
    }

    #[test]
    fn metrics_stand_beside_those_of_the_version_before() {
        let of = |accuracy: Value, depth: &str| -> Run {
            serde_json::from_value(
                json!({"info": {"status": "FINISHED", "start_time": 1_795_384_800_000_i64},
                "data": {"metrics": [{"key": "accuracy", "value": accuracy}],
                    "params": [{"key": "depth", "value": depth}, {"key": "seed", "value": "7"}],
                    "tags": [{"key": "mlflow.user", "value": "jo"}, {"key": "team", "value": "ml"}]}}),
            )
            .expect("a run")
        };
        let fact = run(
            &version("2"),
            &of(json!("NaN"), "6"),
            Some(("1", &of(json!(0.84), "4"))),
        );
        assert_eq!(
            fact.content,
            "run r : FINISHED, 2026-11-22T22:00:00Z to unknown\nmetric accuracy: NaN (version 1: 0.84)\n\
             parameter depth: 6 (version 1: 4)\nparameter seed: 7\ntag team: ml"
        );
    }

    #[test]
    fn importances_are_shares() {
        let body =
            json!({"importances": [{"feature": "a", "importance": 1}, {"feature": "b", "importance": 3}]});
        let fact = importances("profile.json", body.to_string().as_bytes())
            .expect("JSON")
            .expect("some");
        assert_eq!(
            fact.content,
            "b: 75.0 % of all\na: 25.0 % of all\nfrom profile.json of the run"
        );
        assert_eq!(importances("p", b"{}"), Ok(None));
        assert!(importances("p", b"<html>").is_err());
    }
}

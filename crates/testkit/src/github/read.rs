//! What is read of a repository, in pages.

use http::StatusCode;
use serde_json::{Value, json};

use super::refusal;
use super::serve::not_found;
use super::state::Repository;
use crate::predictor::{Received, Reply};

/// Items of a page, unless the request says another number.
const PER_PAGE: usize = 30;

/// Answers a read of the repository `name`.
pub(super) fn read(
    repository: &Repository,
    own: &str,
    downloads: &str,
    name: &str,
    rest: &[&str],
    request: &Received,
) -> Reply {
    let query = request.uri.query().unwrap_or_default();
    let wants = |field: &str| parameter(query, field);
    match rest {
        [] => Reply::json(json!({"full_name": name, "default_branch": "main"}).to_string()),
        ["actions", rest @ ..] => read_actions(repository, own, downloads, name, rest, request),
        ["check-runs", id, "annotations"] => {
            let annotations = id
                .parse()
                .ok()
                .and_then(|id: u64| repository.annotations.get(&id));
            page(own, request, None, annotations.cloned().unwrap_or_default())
        }
        ["compare", range] => {
            let range = range
                .split_once("...")
                .map(|(base, head)| (base.to_owned(), head.to_owned()));
            found(range.and_then(|range| repository.comparisons.get(&range)))
        }
        ["contents", path @ ..] => match repository.files.get(&path.join("/")) {
            Some(text) if request.header("accept").contains("raw") => Reply::status(StatusCode::OK)
                .header("content-type", "application/vnd.github.raw+json; charset=utf-8")
                .chunk(text.clone()),
            Some(text) => Reply::json(json!({"type": "file", "size": text.len()}).to_string()),
            None => not_found(),
        },
        ["commits", sha, "pulls"] => {
            let pulls = repository.pull_requests.iter().filter(|(_, of)| of == sha);
            page(
                own,
                request,
                None,
                pulls.map(|(number, _)| json!({"number": number})).collect(),
            )
        }
        ["commits", sha, "comments"] => {
            let comments = repository.commit_comments.iter().filter(|(of, _)| of == sha);
            page(
                own,
                request,
                None,
                comments.map(|(_, comment)| comment.clone()).collect(),
            )
        }
        ["issues"] => {
            let labels = wants("labels").unwrap_or_default();
            let state = wants("state").unwrap_or_else(|| "open".to_owned());
            let issues = repository.issues.iter().filter(|issue| {
                let has = |label: &str| {
                    issue["labels"]
                        .as_array()
                        .is_some_and(|labels| labels.iter().any(|of| of["name"] == label))
                };
                (state == "all" || issue["state"] == *state)
                    && labels.split(',').filter(|label| !label.is_empty()).all(has)
            });
            // Newest first.
            page(own, request, None, issues.rev().cloned().collect())
        }
        ["issues", number, "comments"] => {
            let Ok(number) = number.parse::<u64>() else {
                return not_found();
            };
            if !repository.has_number(number) {
                return not_found();
            }
            let comments = repository.comments.iter().filter(|(of, _)| *of == number);
            page(
                own,
                request,
                None,
                comments.map(|(_, comment)| comment.clone()).collect(),
            )
        }
        _ => not_found(),
    }
}

fn found(value: Option<&Value>) -> Reply {
    value.map_or_else(not_found, |value| Reply::json(value.to_string()))
}

/// Runs, jobs, logs, workflows.
fn read_actions(
    repository: &Repository,
    own: &str,
    downloads: &str,
    name: &str,
    rest: &[&str],
    request: &Received,
) -> Reply {
    let query = request.uri.query().unwrap_or_default();
    let wants = |field: &str| parameter(query, field);
    let run_of = |id: &str| {
        let id = id.parse().ok();
        repository.runs.iter().find(|run| run["id"].as_u64() == id)
    };
    match rest {
        ["runs"] => {
            let since = wants("created").and_then(|range| range.strip_prefix(">=").map(str::to_owned));
            let runs = repository.runs.iter().filter(|run| {
                wants("status").is_none_or(|wanted| run["status"] == *wanted)
                    && since
                        .as_ref()
                        .is_none_or(|since| run["created_at"].as_str() >= Some(since))
            });
            // Newest first.
            page(own, request, Some("workflow_runs"), runs.rev().cloned().collect())
        }
        ["runs", id] => found(run_of(id)),
        ["runs", id, "attempts", attempt] => match run_of(id) {
            Some(run) if run["run_attempt"].as_u64() >= attempt.parse().ok() => {
                let mut run = run.clone();
                run["run_attempt"] = json!(attempt.parse::<u64>().unwrap_or(1));
                Reply::json(run.to_string())
            }
            _ => not_found(),
        },
        ["runs", id, "attempts", attempt, "jobs"] => {
            let jobs = repository
                .jobs
                .iter()
                .filter(|(run, of, _)| run.to_string() == *id && of.to_string() == *attempt);
            page(
                own,
                request,
                Some("jobs"),
                jobs.map(|(.., job)| job.clone()).collect(),
            )
        }
        ["jobs", id, "logs"] => {
            if request.header("authorization").is_empty() {
                return refusal(403, "Must have admin rights to Repository.", &Value::Null);
            }
            match id.parse::<u64>() {
                Ok(id) if repository.logs.contains_key(&id) => Reply::status(StatusCode::FOUND)
                    .header("location", &format!("{downloads}/logs/{name}/{id}?sig=stub")),
                _ => not_found(),
            }
        }
        ["workflows", workflow, "runs"] => {
            let file = format!("/{workflow}");
            let runs = repository.runs.iter().filter(|run| {
                let of = run["workflow_id"].as_u64() == workflow.parse().ok()
                    || run["path"].as_str().is_some_and(|path| path.ends_with(&file));
                let is =
                    |field: &str, wanted: Option<String>| wanted.is_none_or(|wanted| run[field] == *wanted);
                let status = wants("status");
                let state =
                    status.is_none_or(|wanted| run["status"] == *wanted || run["conclusion"] == *wanted);
                of && state && is("head_branch", wants("branch")) && is("event", wants("event"))
            });
            // Newest first.
            page(own, request, Some("workflow_runs"), runs.rev().cloned().collect())
        }
        _ => not_found(),
    }
}

/// One page of a list, with a link to the next one.
fn page(own: &str, request: &Received, list: Option<&str>, items: Vec<Value>) -> Reply {
    let query = request.uri.query().unwrap_or_default();
    let number = |field: &str| parameter(query, field).and_then(|text| text.parse::<usize>().ok());
    let per_page = number("per_page").unwrap_or(PER_PAGE).clamp(1, 100);
    let page = number("page").unwrap_or(1).max(1);
    let total = items.len();
    let items: Vec<Value> = items
        .into_iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .collect();
    let body = match list {
        Some(list) => json!({"total_count": total, list: items}),
        None => Value::Array(items),
    };
    let reply = Reply::json(body.to_string());
    if page * per_page >= total {
        return reply;
    }
    let others: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("page="))
        .collect();
    let mut query = others.join("&");
    if !query.is_empty() {
        query.push('&');
    }
    let path = request.path();
    let last = total.div_ceil(per_page);
    let link = format!(
        "<{own}{path}?{query}page={}>; rel=\"next\", <{own}{path}?{query}page={last}>; rel=\"last\"",
        page + 1
    );
    reply.header("link", &link)
}

/// A parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(of, _)| *of == name).map(|(_, value)| decoded(value))
}

/// Percent-decoded.
pub(super) fn decoded(text: &str) -> String {
    let text = text.as_bytes();
    let (mut bytes, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| text[at] == b'%');
        let value = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(value.unwrap_or(text[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_decoded() {
        assert_eq!(decoded("a%2Fb%20c%zz%4"), "a/b c%zz%4");
        assert_eq!(parameter("a=1&branch=x%2Fy", "branch").as_deref(), Some("x/y"));
    }
}

//! The routes of the API, and the place that logs are downloaded from.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::state::{Repository, State};
use super::{Fault, TOKEN, check, refusal, refused};
use crate::predictor::{Cut, Received, Reply};

/// Items of a page, unless the request says another number.
const PER_PAGE: usize = 30;

/// The place of the logs. Whoever has the link may have them; a token is not for here.
pub(super) fn download(state: &mut State, request: &Received) -> Reply {
    if request.headers.contains_key("authorization") {
        state.leaks += 1;
        return Reply::status(StatusCode::BAD_REQUEST).chunk("InvalidAuthenticationInfo");
    }
    let found = request.path().strip_prefix("/logs/").and_then(|rest| {
        let (repository, job) = rest.rsplit_once('/')?;
        let job: u64 = job.parse().ok()?;
        state.repositories.get(repository)?.logs.get(&job)
    });
    match found {
        Some(log) => Reply::status(StatusCode::OK)
            .header("content-type", "text/plain; charset=utf-8")
            .chunk(log.clone()),
        None => Reply::status(StatusCode::NOT_FOUND),
    }
}

/// The API at `own`, whose logs are at `downloads`.
pub(super) fn api(state: &mut State, own: &str, downloads: &str, request: &Received) -> Reply {
    if request.header("user-agent").is_empty() {
        let message = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
        return refusal(403, message, &Value::Null);
    }
    let version = request.header("x-github-api-version");
    if !matches!(version, "" | "2022-11-28" | "2026-03-10") {
        return refusal(400, "Version is not supported", &Value::Null);
    }
    let is_write = request.method != Method::GET;
    let token = request.header("authorization");
    let token = token
        .strip_prefix("Bearer ")
        .or_else(|| token.strip_prefix("token "))
        .unwrap_or(token);
    match token {
        TOKEN => {}
        "" if !is_write => {}
        "" => return refusal(401, "Requires authentication", &Value::Null),
        _ => return refusal(401, "Bad credentials", &Value::Null),
    }
    let fault = state.fault(&request.method, request.path());
    let reply = match &fault {
        None | Some(Fault::AnswerLost) => route(state, own, downloads, request),
        Some(fault) => return failing(fault),
    };
    let reply = reply
        .header("x-github-request-id", "0:0:0:0:0")
        .header("x-ratelimit-limit", "5000")
        .header("x-ratelimit-remaining", "4999")
        .header("x-ratelimit-reset", &(now() + 3_600).to_string());
    match fault {
        Some(Fault::AnswerLost) => reply.cut(Cut::BeforeHead),
        _ => reply,
    }
}

fn failing(fault: &Fault) -> Reply {
    let limit = |remaining: &str| {
        let message = if remaining == "0" {
            "API rate limit exceeded for user ID 1."
        } else {
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        };
        refusal(403, message, &Value::Null).header("x-ratelimit-remaining", remaining)
    };
    match fault {
        Fault::Status(status) => refusal(*status, "Scripted", &Value::Null),
        Fault::HtmlPage => Reply::status(StatusCode::BAD_GATEWAY)
            .header("content-type", "text/html")
            .chunk("<html><title>Unicorn!</title></html>"),
        Fault::PrimaryLimit { reset_in } => {
            limit("0").header("x-ratelimit-reset", &(now() + reset_in).to_string())
        }
        Fault::SecondaryLimit { retry_after: None } => limit("4000"),
        Fault::SecondaryLimit {
            retry_after: Some(seconds),
        } => limit("4000").header("retry-after", &seconds.to_string()),
        Fault::AnswerLost => unreachable!("it is performed"),
    }
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn not_found() -> Reply {
    refusal(404, "Not Found", &Value::Null)
}

fn route(state: &mut State, own: &str, downloads: &str, request: &Received) -> Reply {
    let segments: Vec<String> = request.path().trim_matches('/').split('/').map(decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["repos", owner, name, rest @ ..] = segments.as_slice() else {
        return not_found();
    };
    let name = format!("{owner}/{name}");
    let id = state.next_id();
    let denied = state.denied.clone();
    let Some(repository) = state.repositories.get_mut(&name) else {
        return not_found();
    };
    let may = |permission: &str| {
        if denied.iter().any(|denied| denied == permission) {
            return Err(refused(
                403,
                "Resource not accessible by integration",
                &Value::Null,
            ));
        }
        Ok(())
    };
    if request.method == Method::GET {
        return read(repository, own, downloads, &name, rest, request);
    }
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return refusal(400, "Problems parsing JSON", &Value::Null);
    };
    let done = match (request.method.as_str(), rest) {
        ("POST", ["issues"]) => may("issues").and_then(|()| open_issue(repository, &name, id, &body)),
        ("POST", ["issues", number, "comments"]) => {
            may("issues").and_then(|()| comment(repository, &name, id, number, &body))
        }
        ("PATCH", ["issues", "comments", of]) => may("issues").and_then(|()| {
            let comments = repository.comments.iter_mut();
            change(comments.map(|(_, comment)| comment), of, &body)
        }),
        ("POST", ["issues", number, "labels"]) => {
            may("issues").and_then(|()| add_labels(repository, number, &body))
        }
        ("POST", ["commits", sha, "comments"]) => {
            may("contents").and_then(|()| comment_commit(repository, &name, id, sha, &body))
        }
        ("PATCH", ["comments", of]) => may("contents").and_then(|()| {
            let comments = repository.commit_comments.iter_mut();
            change(comments.map(|(_, comment)| comment), of, &body)
        }),
        ("POST", ["actions", "workflows", workflow, "dispatches"]) => {
            may("actions").and_then(|()| dispatch(repository, workflow, id, &body))
        }
        _ => Err(Box::new(not_found())),
    };
    done.unwrap_or_else(|refusal| *refusal)
}

fn open_issue(repository: &mut Repository, name: &str, id: u64, body: &Value) -> Result<Reply, Box<Reply>> {
    check::issue(body)?;
    let number = repository.next_number();
    let labels = if body["labels"].is_null() {
        Vec::new()
    } else {
        check::labels(body)?
    };
    let objects: Vec<Value> = labels.iter().map(|label| json!({"name": label})).collect();
    let issue = json!({
        "id": id, "number": number, "title": body["title"], "body": body["body"], "state": "open",
        "labels": objects, "html_url": format!("https://github.example/{name}/issues/{number}"),
        "user": {"login": "plumbline[bot]", "type": "Bot"}, "author_association": "NONE",
    });
    repository.labels.insert(number, labels);
    repository.issues.push(issue.clone());
    Ok(created(&issue))
}

fn comment(
    repository: &mut Repository,
    name: &str,
    id: u64,
    number: &str,
    body: &Value,
) -> Result<Reply, Box<Reply>> {
    let number: u64 = number.parse().map_err(|_| Box::new(not_found()))?;
    if !repository.has_number(number) {
        return Err(Box::new(not_found()));
    }
    let comment = ours(name, id, &check::comment(body)?);
    repository.comments.push((number, comment.clone()));
    Ok(created(&comment))
}

fn comment_commit(
    repository: &mut Repository,
    name: &str,
    id: u64,
    sha: &str,
    body: &Value,
) -> Result<Reply, Box<Reply>> {
    let is_known = repository.runs.iter().any(|run| run["head_sha"] == sha);
    if !is_known {
        let message = format!("No commit found for SHA: {sha}");
        return Err(refused(422, &message, &Value::Null));
    }
    let mut comment = ours(name, id, &check::comment(body)?);
    comment["commit_id"] = json!(sha);
    repository.commit_comments.push((sha.to_owned(), comment.clone()));
    Ok(created(&comment))
}

fn ours(name: &str, id: u64, body: &str) -> Value {
    json!({
        "id": id, "body": body, "html_url": format!("https://github.example/{name}#comment-{id}"),
        "user": {"login": "plumbline[bot]", "type": "Bot"}, "author_association": "NONE",
    })
}

fn change<'a>(
    mut comments: impl Iterator<Item = &'a mut Value>,
    id: &str,
    body: &Value,
) -> Result<Reply, Box<Reply>> {
    let id: u64 = id.parse().map_err(|_| Box::new(not_found()))?;
    let comment = comments
        .find(|comment| comment["id"] == id)
        .ok_or_else(|| Box::new(not_found()))?;
    let text = check::comment(body)?;
    if comment["user"]["type"] != "Bot" {
        return Err(refused(
            403,
            "Resource not accessible by integration",
            &Value::Null,
        ));
    }
    comment["body"] = json!(text);
    Ok(Reply::json(comment.to_string()))
}

fn add_labels(repository: &mut Repository, number: &str, body: &Value) -> Result<Reply, Box<Reply>> {
    let number: u64 = number.parse().map_err(|_| Box::new(not_found()))?;
    if !repository.has_number(number) {
        return Err(Box::new(not_found()));
    }
    let new = check::labels(body)?;
    let labels = repository.labels.entry(number).or_default();
    for label in new {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let objects: Vec<Value> = labels.iter().map(|label| json!({"name": label})).collect();
    Ok(Reply::json(json!(objects).to_string()))
}

fn dispatch(repository: &mut Repository, workflow: &str, id: u64, body: &Value) -> Result<Reply, Box<Reply>> {
    let known = repository
        .workflows
        .iter()
        .find(|known| known.file == workflow || known.id.to_string() == workflow)
        .ok_or_else(|| Box::new(not_found()))?;
    check::dispatch(body, known, &["main"])?;
    let (file, workflow_id) = (known.file.clone(), known.id);
    // As a workflow does that has `run-name: ${{ inputs.key }}`.
    let title = body["inputs"]["key"].as_str().unwrap_or(&file).to_owned();
    repository.dispatches.push(json!({
        "workflow": file, "ref": body["ref"], "inputs": body["inputs"],
    }));
    repository.runs.push(json!({
        "id": id, "name": title, "display_title": title, "path": format!(".github/workflows/{file}"),
        "workflow_id": workflow_id, "run_number": 1, "run_attempt": 1, "event": "workflow_dispatch",
        "status": "queued", "conclusion": null, "head_branch": "main", "head_sha": "c0ffee",
        "created_at": "2026-11-22T22:30:00Z", "html_url": format!("https://github.example/actions/runs/{id}"),
    }));
    if body["return_run_details"] == true {
        let details = json!({"workflow_run_id": id, "run_url": "", "html_url": ""});
        return Ok(Reply::json(details.to_string()));
    }
    Ok(Reply::status(StatusCode::NO_CONTENT))
}

fn created(body: &Value) -> Reply {
    Reply::json(body.to_string()).with_status(StatusCode::CREATED)
}

fn read(
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
fn decoded(text: &str) -> String {
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

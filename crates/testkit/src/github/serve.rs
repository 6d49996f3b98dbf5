//! The routes of the API, and the place that logs are downloaded from.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::read::{decoded, read};
use super::state::{Repository, State};
use super::{Fault, TOKEN, check, refusal, refused};
use crate::predictor::{Cut, Received, Reply};

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

pub(super) fn not_found() -> Reply {
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

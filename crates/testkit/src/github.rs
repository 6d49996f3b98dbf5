//! A stand-in for GitHub's REST API on loopback, port 0: it checks requests as the service does, keeps what they do, and
//! fails where the test says so.
//!
//! It refuses what the service refuses (a wrong token, a missing permission, unknown repositories, workflows and refs,
//! missing fields, texts that are too long), counts what was done, can perform a request and lose its answer, and
//! redirects downloads of logs to another port, which remembers whether a token came along. `make test-github-fake`
//! holds it against the stock client. What it cannot show: how late the real search index and rate limits are.

mod check;
mod read;
mod serve;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::predictor::{FakePredictor, Received, Reply};
use state::State;

/// The token that [`FakeGitHub`] takes.
pub const TOKEN: &str = "stub-github-token";

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this status and a message, not performed.
    Status(u16),
    /// A gateway's page instead of an answer, not performed.
    HtmlPage,
    /// The primary limit: nothing is left until so many seconds from now.
    PrimaryLimit {
        /// Seconds until the reset.
        reset_in: u64,
    },
    /// The secondary limit with `retry-after` in seconds, if it has one.
    SecondaryLimit {
        /// Seconds.
        retry_after: Option<u64>,
    },
    /// Performed, but the connection breaks before the answer.
    AnswerLost,
}

/// The fake service; it ends when dropped.
#[derive(Debug)]
pub struct FakeGitHub {
    api: FakePredictor,
    downloads: FakePredictor,
    state: Arc<Mutex<State>>,
}

impl FakeGitHub {
    /// Starts it without repositories.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        Self::start_on(address).await
    }

    /// Starts it on a fixed address, for a client in another process.
    pub async fn start_on(address: SocketAddr) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let downloads = {
            let state = Arc::clone(&state);
            FakePredictor::answering(move |request| serve::download(&mut lock(&state), request)).await
        };
        let api = {
            let state = Arc::clone(&state);
            let downloads = downloads.url();
            let own = format!("http://{address}");
            FakePredictor::answering_on(address, move |request| {
                let mut state = lock(&state);
                serve::api(&mut state, &own, &downloads, request).after(state.delay)
            })
        };
        Self {
            api,
            downloads,
            state,
        }
    }

    /// `http://127.0.0.1:PORT`, the base of the API.
    pub fn url(&self) -> String {
        self.api.url()
    }

    /// Adds a repository `OWNER/NAME` whose default branch is `main`.
    pub fn add_repository(&self, name: &str) {
        lock(&self.state).repositories.entry(name.to_owned()).or_default();
    }

    /// Adds a workflow that can be dispatched with the named inputs; its number is returned.
    pub fn add_workflow(&self, repository: &str, file: &str, inputs: &[&str]) -> u64 {
        let mut state = lock(&self.state);
        let id = state.next_id();
        state.repository(repository).workflows.push(state::Workflow {
            id,
            file: file.to_owned(),
            inputs: inputs.iter().map(ToString::to_string).collect(),
        });
        id
    }

    /// Adds a run; `fields` go over what a usual failed one has. Its number is returned.
    pub fn add_run(&self, repository: &str, fields: &Value) -> u64 {
        let mut state = lock(&self.state);
        let id = fields["id"].as_u64().unwrap_or_else(|| state.next_id());
        let run = merged(
            json!({
                "id": id, "name": "CI", "display_title": "a change", "path": ".github/workflows/ci.yaml",
                "workflow_id": 1, "run_number": 7, "run_attempt": 1, "event": "push", "status": "completed",
                "conclusion": "failure", "head_branch": "main", "head_sha": "c0ffee",
                "created_at": "2026-11-22T22:00:00Z", "run_started_at": "2026-11-22T22:00:00Z",
                "html_url": format!("https://github.example/{repository}/actions/runs/{id}"),
                "pull_requests": [], "repository": {"full_name": repository},
            }),
            fields,
        );
        state.repository(repository).runs.push(run);
        id
    }

    /// Adds a job to the run's attempt `attempt`, with its log. Its number is returned.
    pub fn add_job(
        &self,
        repository: &str,
        run: u64,
        attempt: u64,
        fields: &Value,
        log: Option<&str>,
    ) -> u64 {
        let mut state = lock(&self.state);
        let id = state.next_id();
        let own = self.url();
        let job = merged(
            json!({
                "id": id, "run_id": run, "name": "test", "status": "completed", "conclusion": "failure",
                "started_at": "2026-11-22T22:00:05Z", "completed_at": "2026-11-22T22:01:00Z",
                "check_run_url": format!("{own}/repos/{repository}/check-runs/{id}"),
                "runner_name": "runner-1", "labels": ["ubuntu-24.04"], "steps": [],
            }),
            fields,
        );
        let of = state.repository(repository);
        of.jobs.push((run, attempt, job));
        if let Some(log) = log {
            of.logs.insert(id, log.to_owned());
        }
        id
    }

    /// Adds an annotation to a job's check run.
    pub fn add_annotation(&self, repository: &str, job: u64, annotation: Value) {
        let mut state = lock(&self.state);
        state
            .repository(repository)
            .annotations
            .entry(job)
            .or_default()
            .push(annotation);
    }

    /// Says what changed between two commits.
    pub fn set_comparison(&self, repository: &str, base: &str, head: &str, comparison: Value) {
        let mut state = lock(&self.state);
        let key = (base.to_owned(), head.to_owned());
        state.repository(repository).comparisons.insert(key, comparison);
    }

    /// Adds a file, the same at every commit.
    pub fn add_file(&self, repository: &str, path: &str, text: &str) {
        let mut state = lock(&self.state);
        let of = state.repository(repository);
        of.files.insert(path.to_owned(), text.to_owned());
    }

    /// Adds an open pull request with the commit `sha`.
    pub fn add_pull_request(&self, repository: &str, number: u64, sha: &str) {
        let mut state = lock(&self.state);
        let of = state.repository(repository);
        of.pull_requests.push((number, sha.to_owned()));
    }

    /// Adds a comment that somebody else wrote, of this association to the repository.
    pub fn add_foreign_comment(&self, repository: &str, number: u64, body: &str, association: &str) {
        let mut state = lock(&self.state);
        let id = state.next_id();
        let comment = json!({
            "id": id, "body": body, "html_url": format!("https://github.example/{repository}/issues/{number}#{id}"),
            "user": {"login": "somebody", "type": "User"}, "author_association": association,
        });
        let of = state.repository(repository);
        of.comments.push((number, comment));
    }

    /// The next `times` requests of `method` whose path contains `path` go wrong.
    pub fn fail(&self, method: &Method, path: &str, times: usize, fault: Fault) {
        lock(&self.state)
            .faults
            .push((method.clone(), path.to_owned(), times, fault));
    }

    /// Answers every call this much after it was performed.
    pub fn answer_after(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// Takes a permission from the token: `issues`, `actions`, `contents` or `pull_requests`; writes that need it are
    /// refused with 403.
    pub fn deny(&self, permission: &str) {
        lock(&self.state).denied.push(permission.to_owned());
    }

    /// The issues of a repository, in the order of their opening.
    pub fn issues(&self, repository: &str) -> Vec<Value> {
        lock(&self.state).repository(repository).issues.clone()
    }

    /// The comments of an issue or pull request.
    pub fn comments(&self, repository: &str, number: u64) -> Vec<Value> {
        let mut state = lock(&self.state);
        let comments = state.repository(repository).comments.iter();
        comments
            .filter(|(of, _)| *of == number)
            .map(|(_, comment)| comment.clone())
            .collect()
    }

    /// The comments of commits.
    pub fn commit_comments(&self, repository: &str) -> Vec<Value> {
        let mut state = lock(&self.state);
        let comments = state.repository(repository).commit_comments.iter();
        comments.map(|(_, comment)| comment.clone()).collect()
    }

    /// The labels of an issue or pull request.
    pub fn labels(&self, repository: &str, number: u64) -> Vec<String> {
        let mut state = lock(&self.state);
        state
            .repository(repository)
            .labels
            .get(&number)
            .cloned()
            .unwrap_or_default()
    }

    /// What was dispatched: `{"workflow", "ref", "inputs"}` each.
    pub fn dispatches(&self, repository: &str) -> Vec<Value> {
        lock(&self.state).repository(repository).dispatches.clone()
    }

    /// Waits until `count` requests have come to the API, and returns all of them.
    pub async fn received(&self, count: usize) -> Vec<Received> {
        self.api.received(count).await
    }

    /// Requests to the API so far.
    pub fn received_so_far(&self) -> usize {
        self.api.received_so_far()
    }

    /// Downloads so far, and how many of them had a token with them that was not meant for this place.
    pub fn downloads(&self) -> (usize, usize) {
        (self.downloads.received_so_far(), lock(&self.state).leaks)
    }

    /// Breaks every connection.
    pub async fn drop_connections(&self) {
        self.api.drop_connections().await;
    }
}

fn merged(mut usual: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().into_iter().flatten() {
        usual[name.as_str()] = value.clone();
    }
    usual
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same, where it ends what is done.
fn refused(status: u16, message: &str, errors: &Value) -> Box<Reply> {
    Box::new(refusal(status, message, errors))
}

/// An error as the service writes it.
fn refusal(status: u16, message: &str, errors: &Value) -> Reply {
    let mut body = json!({
        "message": message, "status": status.to_string(),
        "documentation_url": "https://docs.github.com/rest",
    });
    if errors.as_array().is_some_and(|errors| !errors.is_empty()) {
        body["errors"] = errors.clone();
    }
    let status = http::StatusCode::from_u16(status).expect("a status");
    Reply::json(body.to_string()).with_status(status)
}

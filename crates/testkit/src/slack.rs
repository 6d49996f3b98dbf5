//! A stand-in for Slack's Web API on loopback, port 0: it refuses what Slack refuses, keeps what is posted, and fails where
//! the test says so.
//!
//! It has one channel, [`CHANNEL`], and takes [`TOKEN`]. Tokens, channels, blocks and their limits are checked; every
//! message is kept once for each time that it was posted, so that a second one shows. It can perform a call and lose the
//! answer. What it cannot show: how Slack renders, and its real rate limits.

mod check;
mod signature;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::predictor::{Cut, FakePredictor, Received, Reply};

pub use check::check_message;
pub use signature::sign;

/// The token that [`FakeSlack`] takes.
pub const TOKEN: &str = "xoxb-stub-slack-token";
/// The channel that it has.
pub const CHANNEL: &str = "C0ALERTS";

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `ok: false` with this error, not performed.
    Error(&'static str),
    /// This status, not performed.
    Status(u16),
    /// 429 with `Retry-After` in seconds, not performed.
    Limited(u64),
    /// Performed, but the connection breaks before the answer.
    AnswerLost,
}

/// A message that was posted.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// Its name in the channel.
    pub ts: String,
    /// The first message of its thread.
    pub thread_ts: Option<String>,
    /// As it was posted or last updated.
    pub body: Value,
    /// `event_payload.key` of its metadata.
    pub key: String,
    /// Times that it was updated.
    pub updates: usize,
}

impl Posted {
    /// Every text of it, joined.
    pub fn text(&self) -> String {
        self.body.to_string()
    }

    /// The value of the button with this `action_id`.
    pub fn button(&self, action_id: &str) -> Option<String> {
        let blocks = self.body["blocks"].as_array()?;
        let elements = blocks
            .iter()
            .filter_map(|block| block["elements"].as_array())
            .flatten();
        let mut buttons = elements.filter(|element| element["action_id"] == action_id);
        buttons.next()?["value"].as_str().map(str::to_owned)
    }
}

#[derive(Debug)]
struct State {
    messages: Vec<Posted>,
    /// What was written to `response_url`s.
    responses: Vec<Value>,
    faults: Vec<(String, usize, Fault)>,
    delay: Duration,
    per_page: usize,
    denied: Vec<String>,
    /// Problems of refused requests.
    refused: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            responses: Vec::new(),
            faults: Vec::new(),
            delay: Duration::ZERO,
            per_page: 50,
            denied: Vec::new(),
            refused: Vec::new(),
        }
    }
}

/// The fake service; it ends when dropped.
#[derive(Debug)]
pub struct FakeSlack {
    server: FakePredictor,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<usize>,
}

impl FakeSlack {
    /// Answers every call at once.
    pub async fn start() -> Self {
        let (state, changed) = (Arc::<Mutex<State>>::default(), watch::Sender::default());
        let server = FakePredictor::answering(script(&state, &changed)).await;
        Self {
            server,
            state,
            changed,
        }
    }

    /// Takes calls, and performs and answers none until [`Self::release`].
    pub async fn holding() -> Self {
        let (state, changed) = (Arc::<Mutex<State>>::default(), watch::Sender::default());
        let server = FakePredictor::holding(script(&state, &changed)).await;
        Self {
            server,
            state,
            changed,
        }
    }

    /// The base of the methods: `http://127.0.0.1:PORT/api`.
    pub fn url(&self) -> String {
        format!("{}/api", self.server.url())
    }

    /// An address for `response_url`.
    pub fn response_url(&self) -> String {
        format!("{}/commands/T0/1", self.server.url())
    }

    /// The next `times` calls of `method` go wrong.
    pub fn fail(&self, method: &str, times: usize, fault: Fault) {
        lock(&self.state).faults.push((method.to_owned(), times, fault));
    }

    /// Answers every call this much after it was performed.
    pub fn answer_after(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// Gives this many messages of a history at once, whatever was asked for, as Slack may: 50 without this.
    pub fn page(&self, messages: usize) {
        lock(&self.state).per_page = messages;
    }

    /// Takes a scope from the token: methods that need it are refused with `missing_scope`.
    pub fn deny(&self, method: &str) {
        lock(&self.state).denied.push(method.to_owned());
    }

    /// Every message so far, in the order of posting.
    pub fn messages(&self) -> Vec<Posted> {
        lock(&self.state).messages.clone()
    }

    /// Messages that began a thread.
    pub fn threads(&self) -> Vec<Posted> {
        let messages = self.messages().into_iter();
        messages.filter(|message| message.thread_ts.is_none()).collect()
    }

    /// What was written to `response_url`s.
    pub fn responses(&self) -> Vec<Value> {
        lock(&self.state).responses.clone()
    }

    /// Why requests were refused that Slack would refuse, too.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.state).refused.clone()
    }

    /// Waits until what was posted, updated and answered is as `wanted`.
    pub async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !wanted(self) {
            let waited = changed.changed().await;
            waited.expect("the sender lives as long as self");
        }
    }

    /// Waits for `count` requests.
    pub async fn received(&self, count: usize) -> Vec<Received> {
        self.server.received(count).await
    }

    /// Requests so far.
    pub fn received_so_far(&self) -> usize {
        self.server.received_so_far()
    }

    /// Lets every held and later call go.
    pub fn release(&self) {
        self.server.release();
    }
}

fn script(
    state: &Arc<Mutex<State>>,
    changed: &watch::Sender<usize>,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let (state, changed) = (Arc::clone(state), changed.clone());
    move |request| {
        let mut state = lock(&state);
        let reply = serve(&mut state, request).after(state.delay);
        drop(state);
        changed.send_modify(|count| *count += 1);
        reply
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(state: &mut State, request: &Received) -> Reply {
    if request.path().starts_with("/commands/") {
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        state.responses.push(body);
        return Reply::status(StatusCode::OK);
    }
    let Some(method) = request.path().strip_prefix("/api/") else {
        return Reply::status(StatusCode::NOT_FOUND);
    };
    let fault = state
        .faults
        .iter_mut()
        .find(|(of, times, _)| of == method && *times > 0)
        .map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        });
    match fault {
        Some(Fault::Error(error)) => error_reply(error),
        Some(Fault::Status(status)) => {
            Reply::status(StatusCode::from_u16(status).expect("a status")).chunk("<html>no</html>")
        }
        Some(Fault::Limited(seconds)) => error_reply("ratelimited")
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .header("retry-after", &seconds.to_string()),
        Some(Fault::AnswerLost) => perform(state, method, request).cut(Cut::BeforeHead),
        None => perform(state, method, request),
    }
}

fn perform(state: &mut State, method: &str, request: &Received) -> Reply {
    match call(state, method, request) {
        Ok(body) => Reply::json(body.to_string()),
        Err(error) => {
            state.refused.push(format!("{method}: {error}"));
            error_reply(error.split(':').next().unwrap_or_default())
        }
    }
}

/// What the method answers, or the code of the error, with a reason for the test after a colon.
fn call(state: &mut State, method: &str, request: &Received) -> Result<Value, String> {
    match request.header("authorization") {
        "" => return Err("not_authed".to_owned()),
        given if given != format!("Bearer {TOKEN}") => return Err("invalid_auth".to_owned()),
        _ => {}
    }
    if state.denied.iter().any(|denied| denied == method) {
        return Err("missing_scope".to_owned());
    }
    match method {
        "chat.postMessage" => {
            let body = check::json_body(request)?;
            check::channel(&body["channel"])?;
            check_message(&body)?;
            post(state, &body)
        }
        "chat.update" => {
            let body = check::json_body(request)?;
            check::channel(&body["channel"])?;
            check_message(&body)?;
            update(state, body)
        }
        "conversations.history" | "conversations.replies" => history(state, method, request),
        _ => Err("unknown_method".to_owned()),
    }
}

fn post(state: &mut State, body: &Value) -> Result<Value, String> {
    let thread_ts = body["thread_ts"].as_str().map(str::to_owned);
    let known = |ts: &String| {
        let mut messages = state.messages.iter();
        messages.any(|message| message.ts == *ts && message.thread_ts.is_none())
    };
    if thread_ts.as_ref().is_some_and(|ts| !known(ts)) {
        return Err("thread_not_found".to_owned());
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let ts = format!("{seconds}.{:06}", state.messages.len() + 1);
    let key = &body["metadata"]["event_payload"]["key"];
    state.messages.push(Posted {
        ts: ts.clone(),
        thread_ts,
        key: key.as_str().unwrap_or_default().to_owned(),
        body: body.clone(),
        updates: 0,
    });
    Ok(json!({"ok": true, "channel": body["channel"], "ts": ts, "message": body}))
}

fn update(state: &mut State, mut body: Value) -> Result<Value, String> {
    let ts = body["ts"].as_str().unwrap_or_default().to_owned();
    let mut messages = state.messages.iter_mut();
    let message = messages
        .find(|message| message.ts == ts)
        .ok_or("message_not_found")?;
    if body["metadata"].is_null() {
        body["metadata"] = message.body["metadata"].clone();
    }
    message.body = body;
    message.updates += 1;
    Ok(json!({"ok": true, "channel": message.body["channel"], "ts": ts}))
}

/// Newest first for a channel, the thread in order for replies; in pages.
fn history(state: &State, method: &str, request: &Received) -> Result<Value, String> {
    let query = request.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(of, _)| *of == name)
            .map(|(_, value)| check::decoded(value))
    };
    check::channel(&json!(parameter("channel")))?;
    let oldest: f64 = parameter("oldest")
        .and_then(|oldest| oldest.parse().ok())
        .unwrap_or(0.0);
    let recent = |message: &&Posted| message.ts.parse::<f64>().is_ok_and(|ts| ts >= oldest);
    let all: Vec<&Posted> = if method == "conversations.replies" {
        let thread = parameter("ts").ok_or("invalid_arguments: ts")?;
        let of = |message: &&Posted| message.ts == thread || message.thread_ts.as_ref() == Some(&thread);
        state.messages.iter().filter(of).collect()
    } else {
        let own = |message: &&Posted| message.thread_ts.is_none() && recent(message);
        state.messages.iter().rev().filter(own).collect()
    };
    let from: usize = parameter("cursor")
        .and_then(|cursor| cursor.parse().ok())
        .unwrap_or(0);
    let with_metadata = parameter("include_all_metadata").as_deref() == Some("true");
    let page: Vec<Value> = all
        .iter()
        .skip(from)
        .take(state.per_page)
        .map(|message| {
            let mut shown = json!({"type": "message", "ts": message.ts, "text": message.body["text"]});
            if with_metadata {
                shown["metadata"] = message.body["metadata"].clone();
            }
            shown
        })
        .collect();
    let next = from + page.len();
    let cursor = if next < all.len() {
        next.to_string()
    } else {
        String::new()
    };
    Ok(json!({
        "ok": true, "messages": page, "has_more": !cursor.is_empty(),
        "response_metadata": {"next_cursor": cursor},
    }))
}

fn error_reply(error: &str) -> Reply {
    Reply::json(json!({"ok": false, "error": error}).to_string())
}

#[cfg(test)]
mod tests;

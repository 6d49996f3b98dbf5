//! An endpoint that keeps the bytes of its connections until they are understood, strictly, and holds each request against
//! what a client asked for.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::generate::{Connection, connection_of, is_answered_early};
use crate::reading::{self, End, Field, Liberty, Message, Reading};

/// Violations that are told in full.
const TOLD: usize = 5;

/// What a proxy adds by itself.
const OWN_FIELDS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "x-request-id",
    "traceparent",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-timeout",
];

/// What belongs to the client's connection.
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "expect",
    "te",
];

/// What came of all that was sent.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Requests that arrived whole.
    pub(crate) requests: u64,
    /// Requests that the proxy broke off, connection and all.
    pub(crate) broken_off: u64,
    /// Arrived although their sender broke a rule.
    pub(crate) liberties: BTreeMap<Liberty, u64>,
    pub(crate) violations: u64,
    /// The first of them.
    pub(crate) told: Vec<String>,
    seen: HashSet<String>,
}

impl Findings {
    pub(crate) fn violation(&mut self, told: impl FnOnce() -> String) {
        self.violations += 1;
        if self.told.len() < TOLD {
            self.told.push(told());
        }
    }
}

/// A strict endpoint; it ends when dropped.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    findings: Arc<Mutex<Findings>>,
    seed: u64,
    connections: TaskTracker,
    stopped: CancellationToken,
}

impl Recorder {
    pub(crate) async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let recorder = Self {
            address: listener.local_addr().expect("a bound listener"),
            findings: Arc::default(),
            seed,
            connections: TaskTracker::new(),
            stopped: CancellationToken::new(),
        };
        let accepting = recorder.clone();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.expect("a connection").0,
                    () = accepting.stopped.cancelled() => return,
                };
                let recorder = accepting.clone();
                accepting
                    .connections
                    .spawn(async move { recorder.record(stream).await });
            }
        });
        recorder
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn findings(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more connections, waits for the end of those there are, and tells what came.
    pub(crate) async fn end(self) -> Findings {
        self.stopped.cancel();
        self.connections.close();
        self.connections.wait().await;
        std::mem::take(&mut self.findings())
    }

    async fn record(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).expect("an option of the socket");
        let mut bytes = Vec::new();
        let mut is_answered = false;
        loop {
            match reading::strict(&bytes) {
                Ok(Some((message, length))) => {
                    let sent = bytes.drain(..length).collect::<Vec<u8>>();
                    self.judge(&message, &sent);
                    if !is_answered && answer(&mut stream, &message).await.is_err() {
                        return;
                    }
                    if message.closes {
                        return;
                    }
                    is_answered = false;
                    continue;
                }
                Ok(None) => {}
                Err(reason) => {
                    let mut findings = self.findings();
                    findings.violation(|| format!("not HTTP: {reason}\n{}", bytes.escape_ascii()));
                    return;
                }
            }
            if !is_answered
                && let Some(message) = reading::begun(&bytes)
                && connection_of(&message.target).is_some_and(is_answered_early)
            {
                is_answered = true;
                if answer(&mut stream, &message).await.is_err() {
                    return;
                }
            }
            match stream.read_buf(&mut bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        if !bytes.is_empty() {
            self.judge_broken_off(&bytes);
        }
    }

    fn judge(&self, message: &Message, sent: &[u8]) {
        let verdict = judge(self.seed, message, true);
        let mut findings = self.findings();
        findings.requests += 1;
        let is_new = findings.seen.insert(message.target.clone());
        match verdict {
            Ok(liberties) if is_new => {
                for liberty in liberties {
                    *findings.liberties.entry(liberty).or_default() += 1;
                }
            }
            verdict => {
                let reason = verdict.err().unwrap_or_else(|| "sent twice".to_owned());
                findings.violation(|| format!("{reason}\n{}", self.told(message, sent)));
            }
        }
    }

    fn judge_broken_off(&self, sent: &[u8]) {
        let message = reading::begun(sent);
        let verdict = match &message {
            None => Err("broken off in its head".to_owned()),
            Some(message) => judge(self.seed, message, false),
        };
        let mut findings = self.findings();
        findings.broken_off += 1;
        if let Err(reason) = verdict {
            findings.violation(|| {
                format!(
                    "broken off: {reason}\n{}",
                    self.told(&message.unwrap_or_default(), sent)
                )
            });
        }
    }

    fn told(&self, message: &Message, sent: &[u8]) -> String {
        let asked = connection_of(&message.target).map(|number| Connection::new(self.seed, number));
        format!(
            "arrived: {}\nasked:   {}",
            sent.escape_ascii(),
            asked.map_or_else(String::new, |asked| format!(
                "{}\n{:?}",
                asked.bytes.escape_ascii(),
                asked.damages
            ))
        )
    }
}

async fn answer(stream: &mut TcpStream, message: &Message) -> std::io::Result<()> {
    let content = if message.method == "HEAD" { "" } else { "{}" };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nX-Target: {}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{content}",
        message.target
    );
    stream.write_all(answer.as_bytes()).await
}

/// Whether a client asked for this, word for word; which liberties were taken.
fn judge(seed: u64, arrived: &Message, is_whole: bool) -> Result<Vec<Liberty>, String> {
    let Some(number) = connection_of(&arrived.target) else {
        return Err("nobody's".to_owned());
    };
    let Reading { messages, end } = Reading::of(&Connection::new(seed, number).bytes);
    let begun = match end {
        End::Partial(begun) | End::Invalid { begun, .. } if !is_whole => begun,
        _ => None,
    };
    let mut all = messages.iter().chain(begun.as_deref());
    let Some(asked) = all.find(|asked| asked.target == arrived.target) else {
        return Err("nobody asked for it".to_owned());
    };
    let agree = |what: &str, holds: bool| {
        if holds {
            Ok(())
        } else {
            Err(format!("another {what}"))
        }
    };
    agree("method", asked.method == arrived.method)?;
    agree("host", asked.host.is_none() || asked.host == arrived.host)?;
    if is_whole {
        agree("body", asked.body == arrived.body)?;
    } else {
        agree("body", asked.body.starts_with(&arrived.body))?;
    }
    for field in &arrived.fields {
        let (name, _) = field;
        agree("connection's field", !HOP_BY_HOP.contains(&name.as_str()))?;
        agree(
            "field",
            OWN_FIELDS.contains(&name.as_str()) || asked.fields.contains(field),
        )?;
    }
    let framing =
        |(name, _): &Field| ["content-length", "transfer-encoding", "host"].contains(&name.as_str());
    agree(
        "trailer",
        arrived
            .trailers
            .iter()
            .all(|trailer| asked.trailers.contains(trailer) && !framing(trailer)),
    )?;
    Ok(asked.liberties.clone())
}

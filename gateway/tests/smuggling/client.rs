//! A client that says what was generated, and holds the answers against it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::generate::Connection;
use crate::reading::{End, Message, Reading};

/// Time for a connection; far more than it takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// What one connection came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Requests that the connection has, by the rules; one that is none, or breaks off, included.
    pub(crate) messages: u64,
    /// Answers of the endpoint.
    pub(crate) answered: u64,
    /// Answers of the proxy, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    pub(crate) violation: Option<String>,
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// The target that the endpoint has seen.
    target: Option<String>,
    is_page: bool,
}

/// Says all of the connection, and listens until it is over.
pub(crate) async fn talk(address: SocketAddr, connection: &Connection) -> Outcome {
    let reading = Reading::of(&connection.bytes);
    let mut outcome = Outcome {
        messages: reading.messages.len() as u64
            + u64::from(matches!(reading.end, End::Partial(Some(_)) | End::Invalid { .. })),
        ..Outcome::default()
    };
    let talked = tokio::time::timeout(PATIENCE, exchange(address, connection, &reading));
    let answers = match talked
        .await
        .unwrap_or_else(|_elapsed| Err("the connection hangs".to_owned()))
    {
        Ok(answers) => answers,
        Err(reason) => {
            outcome.violation = Some(told(&reason, connection, &[]));
            return outcome;
        }
    };
    for answer in &answers {
        match answer.target {
            Some(_) => outcome.answered += 1,
            None => *outcome.refused.entry(answer.status).or_default() += 1,
        }
    }
    outcome.violation = judge(&answers, connection, &reading)
        .err()
        .map(|reason| told(&reason, connection, &answers));
    outcome
}

fn told(reason: &str, connection: &Connection, answers: &[Answer]) -> String {
    let Connection { bytes, damages, .. } = connection;
    format!(
        "{reason}: {answers:?}\nasked:   {}\n{damages:?}",
        bytes.escape_ascii()
    )
}

/// The request that does not come to its end.
fn begun(reading: &Reading) -> Option<&Message> {
    match &reading.end {
        End::Partial(begun) | End::Invalid { begun, .. } => begun.as_deref(),
        End::Complete | End::Closed => None,
    }
}

fn judge(answers: &[Answer], connection: &Connection, reading: &Reading) -> Result<(), String> {
    let asked = reading.messages.iter().chain(begun(reading));
    let asked: Vec<&str> = asked.map(|message| message.target.as_str()).collect();
    if answers.len() > reading.messages.len() + 1 {
        return Err("more answers than requests".to_owned());
    }
    for (index, answer) in answers.iter().enumerate() {
        match &answer.target {
            Some(target) if asked.get(index) != Some(&target.as_str()) => {
                return Err(format!("answer {index} is another request's"));
            }
            None if answer.is_page => return Err(format!("answer {index}: the endpoint's server refuses")),
            None if !(400..500).contains(&answer.status)
                && answer.status != 501
                && !is_own(answer, index, reading) =>
            {
                return Err(format!("answer {index}: {}", answer.status));
            }
            _ => {}
        }
    }
    let sound = answers.iter().take(connection.sound);
    if sound.filter(|answer| answer.target.is_some()).count() < connection.sound {
        return Err(format!(
            "{} sound requests are not all answered",
            connection.sound
        ));
    }
    Ok(())
}

/// Whether a proxy answers this by itself: what is asked of it, not of a model.
fn is_own(answer: &Answer, index: usize, reading: &Reading) -> bool {
    let target = reading.messages.get(index).map(|message| message.target.as_str());
    answer.status == 200 && target.is_some_and(|target| !target.contains("/models/"))
}

async fn exchange(
    address: SocketAddr,
    connection: &Connection,
    reading: &Reading,
) -> Result<Vec<Answer>, String> {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("an option of the socket");
    // The other side may refuse and close before it has taken everything.
    for piece in pieces(connection) {
        if stream.write_all(piece).await.is_err() {
            break;
        }
    }
    let asked = reading.messages.iter().chain(begun(reading));
    let heads: Vec<bool> = asked.map(|message| message.method == "HEAD").collect();
    let (mut bytes, mut answers) = (Vec::new(), Vec::new());
    // With the preface of HTTP/2 the rest has to be frames, which it is not.
    let is_http1 = !connection.bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\n");
    let mut has_ended = false;
    loop {
        while is_http1 && let Some((answer, length)) = parse(&bytes, heads.get(answers.len()) == Some(&true))?
        {
            bytes.drain(..length);
            answers.extend(answer);
        }
        // A connection that does not end by itself is ended when everything that can be answered has been.
        if !has_ended && reading.end != End::Closed && answers.len() >= reading.messages.len() {
            has_ended = true;
            let _already_closed = stream.shutdown().await;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(answers),
        }
    }
}

/// All at once, or cut where the bytes themselves say, so that readers meet the cuts everywhere.
fn pieces(connection: &Connection) -> impl Iterator<Item = &[u8]> {
    let bytes = &connection.bytes;
    let mut rng = fastrand::Rng::with_seed(bytes.len() as u64);
    let size = if rng.u8(..4) == 0 {
        rng.usize(1..=bytes.len()).max(bytes.len() / 8)
    } else {
        bytes.len()
    };
    bytes.chunks(size)
}

/// The first answer in `bytes`, if it is there whole, and its length; an interim one is none.
fn parse(bytes: &[u8], to_head: bool) -> Result<Option<(Option<Answer>, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head
        .parse(bytes)
        .map_err(|error| format!("no answer: {error}: {}", bytes.escape_ascii()))?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let status = head.code.expect("parsed");
    if status < 200 {
        return Ok(Some((None, length)));
    }
    let field = |name: &str| {
        let mut named = head
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        named
            .next()
            .map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    let body = match field("content-length") {
        _ if to_head => 0,
        Some(length) => length.parse().expect("a length"),
        // hyper's own refusals have neither body nor length.
        None => 0,
    };
    let answer = Answer {
        status,
        target: field("x-target"),
        is_page: field("content-type").is_some_and(|media| media.starts_with("text/html")),
    };
    Ok((bytes.len() >= length + body).then_some((Some(answer), length + body)))
}

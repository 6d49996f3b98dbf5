//! One line of a log, JSON or text.

use std::fmt::Write as _;

use serde_json::Value;

use crate::marks::Mark;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Counted from 1 in the file, or in the part of it that was read.
    pub number: usize,
    /// What it says; a JSON line is shown as `time LEVEL target: message key=value`.
    pub text: String,
    /// Bytes of `text` that are its time and the blank after it.
    pub(crate) time: usize,
    /// Its length in the file.
    pub bytes: usize,
    /// When it was written, in milliseconds since 1970, if it says so.
    pub at: Option<i64>,
    /// How bad it looks.
    pub mark: Mark,
}

impl Line {
    /// Lines of a text, empty ones left out.
    pub fn parse_all(text: &str) -> impl Iterator<Item = Self> {
        text.lines()
            .enumerate()
            .map(|(index, line)| Self::parse(index + 1, line, line.len()))
            .filter(|line| !line.body().trim().is_empty())
    }

    /// One line; `bytes` is its length before anything was cut off.
    pub fn parse(number: usize, line: &str, bytes: usize) -> Self {
        if line.starts_with('{')
            && let Ok(Value::Object(fields)) = serde_json::from_str(line)
        {
            return Self::from_json(number, &fields, bytes);
        }
        let (at, body) = split_time(line);
        Self {
            time: line.len() - body.len(),
            number,
            at,
            mark: mark_of(body),
            text: line.to_owned(),
            bytes,
        }
    }

    fn from_json(number: usize, fields: &serde_json::Map<String, Value>, bytes: usize) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| fields.get(*name));
        let at = first(&["timestamp", "time", "ts", "@timestamp"]);
        let level = first(&["level", "severity", "lvl"]).and_then(Value::as_str);
        let inner = fields.get("fields").and_then(Value::as_object);
        let message = first(&["message", "msg"]).or_else(|| inner?.get("message"));
        let mut text = String::new();
        if let Some(at) = at {
            let _ = write!(text, "{} ", plain(at));
        }
        if let Some(level) = level {
            let _ = write!(text, "{} ", level.to_uppercase());
        }
        if let Some(target) = first(&["target", "logger"]).and_then(Value::as_str) {
            let _ = write!(text, "{target}: ");
        }
        text.push_str(&message.map(plain).unwrap_or_default());
        let told = [
            "timestamp",
            "time",
            "ts",
            "@timestamp",
            "level",
            "severity",
            "lvl",
            "target",
            "logger",
        ];
        for (name, value) in fields.iter().chain(inner.into_iter().flatten()) {
            if !told.contains(&name.as_str()) && !matches!(name.as_str(), "message" | "msg" | "fields") {
                let _ = write!(text, " {name}={}", plain(value));
            }
        }
        Self {
            time: 0,
            number,
            at: at
                .and_then(Value::as_str)
                .and_then(|at| at.parse().ok())
                .map(|at: jiff::Timestamp| at.as_millisecond()),
            // What is declared decides; the words decide where nothing is.
            mark: level.and_then(declared).unwrap_or_else(|| mark_of(&text)),
            text: text.replace('\n', " ⏎ "),
            bytes: bytes.max(text.len()),
        }
    }

    /// The time at its beginning to the second.
    pub(crate) fn second(&self) -> &str {
        let time = self.clock();
        time.get(..19).unwrap_or(time)
    }

    /// The time at its beginning, with the blank after it.
    pub(crate) fn clock(&self) -> &str {
        &self.text[..self.time]
    }

    /// The line without its time.
    pub fn body(&self) -> &str {
        &self.text[self.time..]
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The time at the beginning of a line, and the rest.
fn split_time(line: &str) -> (Option<i64>, &str) {
    let Some((first, rest)) = line.split_once(' ') else {
        return (None, line);
    };
    if !first.starts_with(|c: char| c.is_ascii_digit()) {
        return (None, line);
    }
    match first.parse::<jiff::Timestamp>() {
        Ok(at) => (Some(at.as_millisecond()), rest),
        Err(_) => (None, line),
    }
}

/// What a level says, in the words that loggers use.
fn declared(level: &str) -> Option<Mark> {
    Some(match level.to_ascii_lowercase().as_str() {
        "trace" | "debug" | "info" | "information" | "notice" => Mark::Ordinary,
        "warn" | "warning" => Mark::Warning,
        "error" | "err" | "severe" => Mark::Failure,
        "fatal" | "critical" | "crit" | "panic" | "emergency" | "alert" => Mark::Verdict,
        _ => return None,
    })
}

/// What a line of text declares near its beginning, and what its words say.
fn mark_of(body: &str) -> Mark {
    let level = body
        .split(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | ':' | '|' | '=' | '"'))
        .filter(|word| !word.is_empty())
        .take(6)
        .filter(|word| {
            word.bytes().all(|b| b.is_ascii_uppercase()) || word.len() < 9 && body.contains("level=")
        })
        .find_map(declared);
    let words = Mark::of(body);
    match level {
        // Test tools write what failed at the level of their chatter.
        Some(Mark::Ordinary) if words <= Mark::Suspect => Mark::Ordinary,
        Some(level) => level.max(words),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Line {
        Line::parse(1, line, line.len())
    }

    #[test]
    fn a_json_line_is_shown_as_a_person_reads_it() {
        let line = parse(
            r#"{"timestamp":"2026-08-21T10:14:03Z","level":"WARN","fields":{"message":"slow\nupstream","ms":12},"target":"gateway"}"#,
        );
        assert_eq!(
            line.text,
            "2026-08-21T10:14:03Z WARN gateway: slow ⏎ upstream ms=12"
        );
        assert_eq!(line.mark, Mark::Warning);
        assert_eq!(line.at, Some(1_787_307_243_000));
    }

    #[test]
    fn a_level_is_declared_or_read_from_the_words() {
        for (text, mark) in [
            (
                "2026-08-21T10:14:03Z ERROR scorer: reload was given up",
                Mark::Failure,
            ),
            ("[INFO] 0 failed, 3 passed", Mark::Summary),
            ("[INFO] the error handler is installed", Mark::Ordinary),
            ("INFO - TEST-UNEXPECTED-FAIL | a.html | timed out", Mark::Verdict),
            ("level=warn msg=\"queue is long\"", Mark::Warning),
            ("FATAL model is gone", Mark::Verdict),
        ] {
            assert_eq!(parse(text).mark, mark, "{text}");
        }
    }

    #[test]
    fn a_line_is_split_from_its_time() {
        let line = parse("2026-08-21T10:14:03.123Z   at main.rs:3");
        assert_eq!(
            (line.body(), line.second()),
            ("  at main.rs:3", "2026-08-21T10:14:03")
        );
        assert_eq!(parse("12 of 13 failed").body(), "12 of 13 failed");
    }
}

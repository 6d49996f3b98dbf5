//! One line of a log, JSON or text.

use std::fmt::Write as _;

use serde_json::Value;

/// How bad a line says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Everything below a warning, and lines without a level.
    Ordinary,
    /// Degraded, handled.
    Warn,
    /// Says nothing of its level, but uses the words of failures.
    Suspect,
    /// Something failed.
    Error,
    /// The process ends: fatal, panic, out of memory.
    Fatal,
}

impl Level {
    pub(crate) fn weight(self) -> f64 {
        match self {
            Self::Ordinary => 0.0,
            Self::Warn => 3.0,
            Self::Suspect => 5.0,
            Self::Error => 8.0,
            Self::Fatal => 12.0,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" | "debug" | "info" | "information" | "notice" => Self::Ordinary,
            "warn" | "warning" => Self::Warn,
            "error" | "err" | "severe" | "fail" | "failed" => Self::Error,
            "fatal" | "critical" | "crit" | "panic" | "emergency" | "alert" => Self::Fatal,
            _ => return None,
        })
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Counted from 1 in the file, or in the part of it that was read.
    pub(crate) number: usize,
    /// What it says; a JSON line is shown as `time LEVEL target: message key=value`.
    pub(crate) text: String,
    /// Its length in the file.
    pub(crate) bytes: usize,
    /// When it was written, in milliseconds since 1970, if it says so.
    pub(crate) at: Option<i64>,
    level: Option<Level>,
}

impl Line {
    /// Lines of a text, empty ones left out.
    pub(crate) fn parse_all(text: &str) -> Vec<Self> {
        text.lines()
            .enumerate()
            .map(|(index, line)| Self::parse(index + 1, line, line.len()))
            .filter(|line| !line.text.trim().is_empty())
            .collect()
    }

    /// One line; `bytes` is its length before anything was cut off.
    pub(crate) fn parse(number: usize, line: &str, bytes: usize) -> Self {
        if line.starts_with('{')
            && let Ok(Value::Object(fields)) = serde_json::from_str(line)
        {
            return Self::from_json(number, &fields, bytes);
        }
        let first = line.split_whitespace().next().unwrap_or("");
        Self {
            number,
            at: first.parse().ok().map(|at: jiff::Timestamp| at.as_millisecond()),
            level: level_of(line),
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
            number,
            at: at
                .and_then(Value::as_str)
                .and_then(|at| at.parse().ok())
                .map(|at: jiff::Timestamp| at.as_millisecond()),
            // A declared level decides; the words decide where there is none.
            level: level.and_then(Level::parse).or_else(|| level_of(&text)),
            text: text.replace('\n', " ⏎ "),
            bytes: bytes.max(text.len()),
        }
    }

    /// How much it stands out.
    pub(crate) fn weight(&self) -> f64 {
        self.level.unwrap_or(Level::Ordinary).weight()
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How programs end that do not say a level.
const FATAL: [&str; 6] = [
    "panicked at",
    "oomkilled",
    "out of memory",
    "segmentation fault",
    "core dumped",
    "traceback (most recent",
];
/// How compilers, test runners and shells mark a failure.
const MARKED: [&str; 14] = [
    "##[error]",
    "--- fail",
    "[fail",
    "fail!",
    "failures:",
    "error[",
    "error:",
    "exception:",
    "assertionerror",
    "assertion failed",
    "fatal:",
    "exit code 1",
    "did not complete",
    "undefined symbol",
];
/// Words of failures, and of much else.
const SUSPECT: [&str; 13] = [
    "error",
    "exception",
    "fail",
    "refused",
    "denied",
    "cannot ",
    "could not",
    "unable to",
    "mismatch",
    "not found",
    "unreachable",
    "expect(",
    "timed out",
];
const WARN: [&str; 4] = ["timeout", "retrying", "deprecated", "slow "];
/// Phrases that hold such a word and say the opposite.
const HARMLESS: [&str; 8] = [
    "0 failed",
    "0 errors",
    "0 failures",
    "no error",
    "without error",
    "errors=0",
    "failed=0",
    "error=none",
];

fn level_of(line: &str) -> Option<Level> {
    // The level of a text line stands near its beginning.
    let declared = line
        .split(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | ':' | '|' | '=' | '"'))
        .filter(|word| !word.is_empty())
        .take(6)
        .filter(|word| {
            word.chars().all(|c| c.is_ascii_uppercase()) || word.len() < 9 && line.contains("level=")
        })
        .find_map(Level::parse);
    if declared.is_some() {
        return declared;
    }
    let head = crate::text::prefix(line, 2_048).to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| head.contains(word));
    if has(&FATAL) {
        Some(Level::Fatal)
    } else if has(&HARMLESS) {
        None
    } else if has(&MARKED) {
        Some(Level::Error)
    } else if has(&SUSPECT) {
        Some(Level::Suspect)
    } else {
        has(&WARN).then_some(Level::Warn)
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
        assert_eq!(line.level, Some(Level::Warn));
        assert_eq!(line.at, Some(1_787_307_243_000));
    }

    #[test]
    fn the_level_is_declared_or_read_from_the_words() {
        for (text, level) in [
            (
                "2026-08-21T10:14:03Z ERROR scorer: reload failed",
                Some(Level::Error),
            ),
            ("[INFO] 0 failed, 3 passed", Some(Level::Ordinary)),
            ("level=warn msg=\"queue is long\"", Some(Level::Warn)),
            ("thread 'main' panicked at src/main.rs:3", Some(Level::Fatal)),
            ("tests: 12 passed, 0 failed", None),
            ("java.lang.IllegalStateException: no session", Some(Level::Error)),
            ("--- FAIL: TestSuite (179.28s)", Some(Level::Error)),
            ("connection refused by peer", Some(Level::Suspect)),
            ("everything is fine", None),
        ] {
            assert_eq!(parse(text).level, level, "{text}");
        }
    }
}

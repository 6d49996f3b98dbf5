//! Reads a question by code: which measurement, of which model and version, over which time.

use std::time::Duration;

use super::catalog::Query;
use super::{AskError, Choice, Known, MAX_QUESTION};

/// Over which time rates are when the question does not say.
pub(super) const WINDOW: Duration = Duration::from_mins(5);
/// Which latency is meant when the question does not say.
pub(super) const QUANTILE: f64 = 0.95;
/// Longest window, and the furthest that one may be in the past.
pub(super) const LONGEST: Duration = Duration::from_hours(24 * 90);

/// Words after `model` that are not its name.
const NO_NAMES: &[&str] = &[
    "is",
    "are",
    "was",
    "were",
    "has",
    "had",
    "have",
    "in",
    "on",
    "at",
    "over",
    "during",
    "the",
    "and",
    "or",
    "now",
    "today",
    "yesterday",
    "for",
    "of",
    "with",
    "that",
    "which",
    "last",
    "versions",
    "version",
    "latency",
    "drift",
    "right",
    "doing",
    "do",
    "does",
    "currently",
    "server",
    "servers",
    "serving",
];

/// A question in pieces: words in lower case and as they were written.
struct Words<'a> {
    lower: Vec<String>,
    written: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn of(question: &'a str) -> Self {
        let is_edge = |c: char| !c.is_alphanumeric() && c != '_';
        let written: Vec<&str> = question
            .split(|c: char| c.is_whitespace() || matches!(c, ',' | '?' | '!' | ';' | '(' | ')'))
            .map(|word| word.trim_end_matches("'s").trim_matches(is_edge))
            .filter(|word| !word.is_empty())
            .collect();
        Self {
            lower: written.iter().map(|word| word.to_lowercase()).collect(),
            written,
        }
    }

    /// Where the words of `phrase` stand one after the other.
    fn find(&self, phrase: &str) -> Option<usize> {
        let wanted: Vec<&str> = phrase.split(' ').collect();
        self.lower
            .windows(wanted.len())
            .position(|words| words.iter().zip(&wanted).all(|(word, wanted)| word == wanted))
    }

    /// The word after the one at `place`.
    fn after(&self, place: usize) -> Option<&str> {
        self.lower.get(place + 1).map(String::as_str)
    }
}

/// What `question` asks for.
///
/// # Errors
/// [`AskError`]: nothing matches, several do equally well, or it names what does not exist.
pub(super) fn read(question: &str, known: &Known) -> Result<Choice, AskError> {
    if question.trim().is_empty() {
        return Err(AskError::Empty);
    }
    if question.chars().count() > MAX_QUESTION {
        return Err(AskError::TooLong);
    }
    let words = Words::of(question);
    let version = version(&words, known)?;
    let model = model(&words, known)?;
    let query = query(&words)?;
    let (window, ago) = time(&words);
    Ok(Choice {
        query,
        model,
        version,
        quantile: quantile(&words).unwrap_or(QUANTILE),
        window,
        ago,
    })
}

/// The measurement whose words the question has most of; of phrases the longer ones count more.
fn query(words: &Words<'_>) -> Result<Query, AskError> {
    let score = |query: &Query| {
        let phrases = query.words().iter().filter(|phrase| words.find(phrase).is_some());
        // A phrase of two words says more than two words that stand alone.
        phrases
            .map(|phrase| phrase.split(' ').count().pow(2))
            .max()
            .unwrap_or(0)
    };
    let mut scored: Vec<(usize, Query)> = Query::ALL.iter().map(|query| (score(query), *query)).collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let best = scored[0].0;
    if best == 0 {
        // A quantile alone is of the latency.
        return match quantile(words) {
            Some(_) => Ok(Query::Latency),
            None => Err(AskError::NotUnderstood(Query::list())),
        };
    }
    let equal: Vec<Query> = scored
        .iter()
        .take_while(|(score, _)| *score == best)
        .map(|(_, query)| *query)
        .collect();
    if let [only] = equal[..] {
        return Ok(only);
    }
    let titles: Vec<&str> = equal.iter().map(|query| query.title()).collect();
    Err(AskError::Ambiguous(titles.join(", or ")))
}

/// The model that the question names: any word that is one, or the one after `model`, which must be.
fn model(words: &Words<'_>, known: &Known) -> Result<Option<String>, AskError> {
    let named = words
        .written
        .iter()
        .find_map(|word| known.models.iter().find(|model| model.as_str() == *word))
        .or_else(|| {
            let same = |word: &String| known.models.iter().find(|model| model.to_lowercase() == *word);
            words.lower.iter().find_map(same)
        });
    if let Some(model) = named {
        return Ok(Some(model.clone()));
    }
    let after = words
        .lower
        .iter()
        .position(|word| word == "model")
        .and_then(|place| words.written.get(place + 1).copied().zip(words.after(place)));
    match after {
        Some((written, lower))
            if !NO_NAMES.contains(&lower) && version_number(lower).is_none() && !is_a_measurement(lower) =>
        {
            Err(unknown("model", written, &known.models))
        }
        _ => Ok(None),
    }
}

fn is_a_measurement(word: &str) -> bool {
    let mut words = Query::ALL.iter().flat_map(|query| query.words());
    words.any(|phrase| phrase.split(' ').next() == Some(word))
}

/// `v2` or `version 2`, which must be one that is known.
fn version(words: &Words<'_>, known: &Known) -> Result<Option<String>, AskError> {
    let after_word = words.find("version").and_then(|place| words.after(place));
    let named = after_word.filter(|word| !NO_NAMES.contains(word)).or_else(|| {
        words
            .lower
            .iter()
            .map(String::as_str)
            .find(|word| version_number(word).is_some())
    });
    let Some(named) = named else { return Ok(None) };
    let number = version_number(named).unwrap_or(named);
    let found = known
        .versions
        .iter()
        .find(|version| version.as_str() == named)
        .or_else(|| known.versions.iter().find(|version| version.as_str() == number));
    match found {
        Some(version) => Ok(Some(version.clone())),
        None => Err(unknown("version", named, &known.versions)),
    }
}

/// The `2` of `v2`.
fn version_number(word: &str) -> Option<&str> {
    let number = word.strip_prefix('v')?;
    let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    digits.then_some(number)
}

pub(super) fn unknown(what: &'static str, name: &str, known: &[String]) -> AskError {
    AskError::Unknown {
        what,
        name: crate::text::one_line(&crate::text::sanitise(name), 60),
        known: if known.is_empty() {
            "none yet".to_owned()
        } else {
            known.join(", ")
        },
    }
}

/// `p95`, `95th`, `95 %` or `median` as a number in `(0, 1)`.
fn quantile(words: &Words<'_>) -> Option<f64> {
    let of = |word: &String| {
        if word == "median" {
            return Some(0.5);
        }
        let digits = word
            .strip_prefix('p')
            .or_else(|| word.strip_suffix("th"))
            .or_else(|| word.strip_suffix("st"))
            .or_else(|| word.strip_suffix("nd"))
            .or_else(|| word.strip_suffix("rd"))?;
        let percent: f64 = digits.parse().ok()?;
        // `p999` is 99.9 %.
        let percent = if percent >= 100.0 { percent / 10.0 } else { percent };
        // Divided once, so that 95 is 0.95.
        (percent > 0.0 && percent < 100.0).then_some(percent / 100.0)
    };
    words.lower.iter().find_map(of)
}

/// The window, and how long ago it ended.
fn time(words: &Words<'_>) -> (Duration, Duration) {
    const DAY: Duration = Duration::from_hours(24);
    if words.find("yesterday").is_some() {
        return (DAY, DAY);
    }
    if words.find("today").is_some() {
        return (DAY, Duration::ZERO);
    }
    for (place, word) in words.lower.iter().enumerate() {
        let Some((unit, joined)) = unit(word) else {
            continue;
        };
        let before = place
            .checked_sub(1)
            .map_or("", |before| words.lower[before].as_str());
        // Of a rate: requests per second, requests a second.
        if matches!((before, word.as_str()), ("per", _) | ("a", "second")) {
            continue;
        }
        let number = joined.or_else(|| before.parse().ok()).unwrap_or(1.0);
        if !(number > 0.0 && number.is_finite()) {
            continue;
        }
        let seconds = (unit.as_secs_f64() * number).clamp(1.0, LONGEST.as_secs_f64());
        let length = Duration::from_secs(seconds as u64);
        return if words.after(place) == Some("ago") {
            (WINDOW, length)
        } else {
            (length, Duration::ZERO)
        };
    }
    (WINDOW, Duration::ZERO)
}

/// The length of a unit of time, and the number that is written with it, as in `15m`.
pub(super) fn unit(word: &str) -> Option<(Duration, Option<f64>)> {
    let split = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = word.split_at(split);
    let number: Option<f64> = number.parse().ok();
    let seconds = match (unit, number) {
        ("second" | "seconds" | "sec" | "secs", _) | ("s", Some(_)) => 1,
        ("minute" | "minutes" | "min" | "mins", _) | ("m", Some(_)) => 60,
        ("hour" | "hours" | "hr" | "hrs", _) | ("h", Some(_)) => 3_600,
        ("day" | "days", _) | ("d", Some(_)) => 86_400,
        ("week" | "weeks", _) | ("w", Some(_)) => 7 * 86_400,
        ("month" | "months", _) => 30 * 86_400,
        _ => return None,
    };
    Some((Duration::from_secs(seconds), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            models: vec!["churn".to_owned(), "Fraud-EU".to_owned()],
            versions: vec!["1".to_owned(), "2".to_owned()],
        }
    }

    fn understood(question: &str) -> (Query, Option<String>, Option<String>, f64, u64, u64) {
        let choice = read(question, &known()).unwrap_or_else(|error| panic!("{question}: {error}"));
        let (window, ago) = (choice.window.as_secs(), choice.ago.as_secs());
        (
            choice.query,
            choice.model,
            choice.version,
            choice.quantile,
            window,
            ago,
        )
    }

    #[test]
    fn questions_as_people_ask_them() {
        let churn = || Some("churn".to_owned());
        let two = || Some("2".to_owned());
        let cases = [
            (
                "What's the p95 latency of model v2?",
                (Query::Latency, None, two(), 0.95, 300, 0),
            ),
            (
                "what is the median latency of churn",
                (Query::Latency, churn(), None, 0.5, 300, 0),
            ),
            (
                "p99.9 of churn version 2 over the last hour",
                (Query::Latency, churn(), two(), 0.999, 3_600, 0),
            ),
            (
                "99th percentile response time, last 15 minutes?",
                (Query::Latency, None, None, 0.99, 900, 0),
            ),
            (
                "How many requests did churn get today?",
                (Query::Requests, churn(), None, 0.95, 86_400, 0),
            ),
            (
                "requests per second of fraud-eu",
                (
                    Query::RequestRate,
                    Some("Fraud-EU".to_owned()),
                    None,
                    0.95,
                    300,
                    0,
                ),
            ),
            (
                "error rate of churn yesterday",
                (Query::Failures, churn(), None, 0.95, 86_400, 86_400),
            ),
            (
                "Is churn drifting?",
                (Query::DriftState, churn(), None, 0.95, 300, 0),
            ),
            (
                "Is the model drifting?",
                (Query::DriftState, None, None, 0.95, 300, 0),
            ),
            (
                "drift score of churn's features",
                (Query::DriftScore, churn(), None, 0.95, 300, 0),
            ),
            (
                "what was the accuracy of `churn` 2 days ago?",
                (Query::Accuracy, churn(), None, 0.95, 300, 172_800),
            ),
            (
                "error rate over 30m",
                (Query::Failures, None, None, 0.95, 1_800, 0),
            ),
            ("which alerts fire", (Query::Alerts, None, None, 0.95, 300, 0)),
            (
                "missing values of churn in the last week",
                (Query::Missing, churn(), None, 0.95, 604_800, 0),
            ),
        ];
        for (question, (query, model, version, quantile, window, ago)) in cases {
            let found = understood(question);
            assert!((found.3 - quantile).abs() < 1e-12, "{question}: {}", found.3);
            assert_eq!(
                (found.0, found.1, found.2, found.4, found.5),
                (query, model, version, window, ago),
                "{question}"
            );
        }
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let error = |question: &str| read(question, &known()).expect_err(question).to_string();
        assert!(error("What is the meaning of life?").starts_with("no measurement matches"));
        assert_eq!(
            error("latency of model fraud"),
            "there is no model `fraud` in Prometheus; there are: churn, Fraud-EU"
        );
        assert_eq!(
            error("latency of churn v3"),
            "there is no version `v3` in Prometheus; there are: 1, 2"
        );
        assert!(error("precision and recall of churn").contains("precision, or recall"));
        assert!(error("  ").contains("empty") && error(&"x".repeat(501)).contains("longer"));
    }

    #[test]
    fn text_of_a_question_never_becomes_part_of_an_expression() {
        let hostile = "latency of churn\"} or vector(1) # {model=\"x\"}[99999d] v2";
        let choice = read(hostile, &known()).expect("the latency, of all that the words name");
        let expression = choice.expression();
        assert!(
            !expression.contains("vector") && !expression.contains('#'),
            "{expression}"
        );
    }
}

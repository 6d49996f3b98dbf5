//! Takes secrets and personal data out of text before it is stored, sent or logged.
//!
//! A value becomes `[REDACTED:kind:n]`; the same value gets the same `n` within one [`Redaction`], and the table of
//! values is dropped with it. Values are found in clear, base64, hex, percent-encoded, as escapes, and wrapped over two
//! lines. The engine is linear in the text: an input cannot make it slow.

mod encoded;
mod finder;
mod rules;
mod shapes;
mod wrapped;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use regex::Regex;

use finder::{Finder, Hit};

/// Shortest configured secret that is looked for by value: shorter ones would hit ordinary words.
const MIN_CONFIGURED: usize = 6;
/// Lines of a private key whose end is missing that are taken with it.
const MAX_KEY_LINES: usize = 200;

/// What is taken out, compiled once. Cloned freely.
#[derive(Clone)]
pub(crate) struct Redactor(Arc<Compiled>);

struct Compiled {
    finder: Finder,
    key_begin: Regex,
    key_end: Regex,
    placeholder: Regex,
    secret_name: Regex,
    /// The worker's own secrets in every form in which they could come back.
    configured: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor")
            .field("rules", &self.0.finder.rules())
            .finish_non_exhaustive()
    }
}

impl Redactor {
    /// `configured` are the worker's own secrets, taken out by value; `addresses` also takes out IP addresses.
    pub(crate) fn new(configured: &[&str], addresses: bool) -> Self {
        let mut forms: Vec<String> = configured
            .iter()
            .filter(|secret| secret.len() >= MIN_CONFIGURED)
            .flat_map(|secret| forms(secret))
            .collect();
        // A form that contains another must go first.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        Self(Arc::new(Compiled {
            finder: Finder::new(addresses),
            key_begin: finder::pattern(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"),
            key_end: finder::pattern(r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"),
            placeholder: finder::pattern(r"\[REDACTED:([a-z0-9_]+):([0-9]{1,9})\]"),
            secret_name: finder::pattern(&format!("(?i)^{}$", rules::SECRET_NAME)),
            configured: forms,
        }))
    }

    /// Starts a table of values. Numbers go on after the placeholders that `earlier` texts already have.
    pub(crate) fn begin<'a>(&self, earlier: impl IntoIterator<Item = &'a str>) -> Redaction {
        let mut last = BTreeMap::new();
        for text in earlier {
            for found in self.0.placeholder.captures_iter(text) {
                let number: u32 = found[2].parse().unwrap_or(0);
                let last: &mut u32 = last.entry(found[1].to_owned()).or_default();
                *last = number.max(*last);
            }
        }
        Redaction {
            compiled: Arc::clone(&self.0),
            numbers: HashMap::new(),
            last,
        }
    }
}

/// One table of values, for the texts of one incident.
pub(crate) struct Redaction {
    compiled: Arc<Compiled>,
    numbers: HashMap<(&'static str, String), u32>,
    last: BTreeMap<String, u32>,
}

impl Redaction {
    /// The text without secrets.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let compiled = Arc::clone(&self.compiled);
        let mut text = Cow::Borrowed(text);
        for secret in &compiled.configured {
            if text.contains(secret.as_str()) {
                let placeholder = self.placeholder("configured", secret);
                text = Cow::Owned(text.replace(secret.as_str(), &placeholder));
            }
        }
        let text = self.private_keys(&compiled, text);
        let text = self.wrapped(&compiled, text);
        let mut kept = String::with_capacity(text.len());
        let mut hits = Vec::new();
        for line in text.split_inclusive('\n') {
            hits.clear();
            compiled.finder.find(line, &mut hits);
            encoded::find(line, &compiled.finder, &mut hits);
            self.replace(line, &hits, &mut kept);
        }
        kept
    }

    /// The value of a field, taken out whole when the field's name says that it is a secret.
    pub(crate) fn field(&mut self, name: &str, value: &str) -> String {
        if !value.is_empty() && self.compiled.secret_name.is_match(name) && !value.starts_with("[REDACTED:") {
            return self.placeholder("secret", value);
        }
        self.text(value)
    }

    /// Every text of a document, names of fields included. Hidden characters go first, so that they cannot split a
    /// secret.
    pub(crate) fn json(&mut self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.text(&crate::text::sanitise(text)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(fields) => {
                let taken = std::mem::take(fields);
                for (name, mut value) in taken {
                    let name = crate::text::sanitise(&name);
                    match &mut value {
                        Value::String(text) => *text = self.field(&name, &crate::text::sanitise(text)),
                        other => self.json(other),
                    }
                    let name = self.text(&name);
                    fields.insert(name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Values taken out so far, each counted once.
    pub(crate) fn count(&self) -> u64 {
        self.numbers.len() as u64
    }

    fn placeholder(&mut self, kind: &'static str, value: &str) -> String {
        let last = &mut self.last;
        let number = *self.numbers.entry((kind, value.to_owned())).or_insert_with(|| {
            let last = last.entry(kind.to_owned()).or_default();
            *last += 1;
            *last
        });
        format!("[REDACTED:{kind}:{number}]")
    }

    /// Appends `line` with a placeholder for each hit.
    fn replace(&mut self, line: &str, hits: &[Hit], kept: &mut String) {
        let mut end = 0;
        for hit in hits {
            let Range { start, end: after } = hit.range;
            kept.push_str(&line[end..start]);
            kept.push_str(&self.placeholder(hit.kind, &line[start..after]));
            end = after;
        }
        kept.push_str(&line[end..]);
    }

    /// Values that begin on one line and end on the next.
    fn wrapped<'a>(&mut self, compiled: &Compiled, text: Cow<'a, str>) -> Cow<'a, str> {
        let found = wrapped::find(&text, &compiled.finder);
        if found.is_empty() {
            return text;
        }
        let mut kept = String::with_capacity(text.len());
        let mut end = 0;
        for value in found {
            let (tail, head) = (&text[value.tail.clone()], &text[value.head.clone()]);
            let placeholder = self.placeholder(value.kind, &format!("{tail}{head}"));
            kept.push_str(&text[end..value.tail.start]);
            kept.push_str(&placeholder);
            // What is between them stays: the line break, and what the next line begins with.
            kept.push_str(&text[value.tail.end..value.head.start]);
            end = value.head.end;
        }
        kept.push_str(&text[end..]);
        Cow::Owned(kept)
    }

    /// Private keys over several lines, whatever stands before each line.
    fn private_keys<'a>(&mut self, compiled: &Compiled, text: Cow<'a, str>) -> Cow<'a, str> {
        if !text.contains("-----BEGIN ") {
            return text;
        }
        let mut kept = String::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some(begin) = compiled.key_begin.find(rest) {
            let body = &rest[begin.end()..];
            let length = compiled.key_end.find(body).map_or_else(
                || body.split_inclusive('\n').take(MAX_KEY_LINES).map(str::len).sum(),
                |end| end.end(),
            );
            kept.push_str(&rest[..begin.start()]);
            kept.push_str(&self.placeholder("private_key", &body[..length]));
            rest = &body[length..];
        }
        kept.push_str(rest);
        Cow::Owned(kept)
    }
}

/// Clear, reversed, base64 with and without padding in both alphabets, hex in both cases, and percent-encoded.
fn forms(secret: &str) -> Vec<String> {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let mut hex = String::with_capacity(secret.len() * 2);
    for byte in secret.bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    let encoded =
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    vec![
        secret.to_owned(),
        secret.chars().rev().collect(),
        STANDARD.encode(secret),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex.to_uppercase(),
        hex,
        encoded,
    ]
}

#[cfg(test)]
mod tests;

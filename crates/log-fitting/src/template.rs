//! The constant part of a log line: what varies is masked, so that repeated messages count as one.

use crate::text::prefix;

/// Bytes of a line that its template is made of.
const MASKED: usize = 512;
/// Stands for what varies.
const HOLE: &str = "<*>";

/// What lines with different values have in common.
pub(crate) struct Template {
    /// The line with `<*>` for what varies.
    pub(crate) text: String,
    /// Its hash, by which templates are compared.
    pub(crate) id: u64,
    /// The hash of its first two words: lines that begin alike are of one kind, whatever they go on with.
    pub(crate) kind: u64,
}

impl Template {
    /// Of a line without its time.
    pub(crate) fn of(line: &str) -> Self {
        let text = mask(prefix(line, MASKED));
        let (id, kind) = (hash(&text), hash(first_words(&text)));
        Self { text, id, kind }
    }
}

/// FNV-1a, 64 bits: the same in every build, so that what is remembered can be compared.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Up to the end of the second word.
fn first_words(text: &str) -> &str {
    let mut ends = text
        .char_indices()
        .zip(text.chars().skip(1))
        .filter(|((_, c), next)| !c.is_whitespace() && next.is_whitespace())
        .map(|((at, c), _)| at + c.len_utf8());
    ends.nth(1).map_or(text, |end| &text[..end])
}

/// The line with every word that holds a digit, and every quoted text, replaced by `<*>`.
///
/// Words are split at blanks and at `= : , ; ( ) [ ] { } " ' / @ |`, which stay. A word with a digit is a number, an
/// identifier, a time, an address or a version: all vary from line to line. Repeated holes with the same separator
/// between them become one, so that lists of different length are one template.
fn mask(line: &str) -> String {
    let mut masked = String::with_capacity(line.len().min(256));
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if matches!(c, '"' | '\'')
            && let Some(end) = rest[1..].find(c).filter(|end| *end > 0)
        {
            hole(&mut masked);
            rest = &rest[end + 2..];
            continue;
        }
        let word = rest.find(is_separator).unwrap_or(rest.len());
        if word == 0 {
            masked.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (text, after) = rest.split_at(word);
        if text.bytes().any(|b| b.is_ascii_digit()) {
            hole(&mut masked);
        } else {
            masked.push_str(text);
        }
        rest = after;
    }
    masked
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '=' | ':' | ',' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '"' | '\'' | '/' | '@' | '|'
        )
}

/// Adds a hole, or joins it to the one before the last separators.
fn hole(masked: &mut String) {
    let trimmed = masked.trim_end_matches([':', ',', '/', ' ', '-']);
    if trimmed.ends_with(HOLE) && trimmed.len() < masked.len() {
        masked.truncate(trimmed.len());
    } else {
        masked.push_str(HOLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_identifiers_times_and_quotes_are_holes() {
        for (line, expected) in [
            ("request 17 took 3.5ms", "request <*> took <*>"),
            (
                "2026-08-21T10:14:03Z ERROR shard 7 failed",
                "<*> ERROR shard <*> failed",
            ),
            ("model=\"churn\" rows=512", "model=<*> rows=<*>"),
            ("shape [1, 20, 3] expected", "shape [<*>] expected"),
            ("connect to 10.0.0.7:8080 refused", "connect to <*> refused"),
            ("nothing varies", "nothing varies"),
            ("it's fine", "it's fine"),
        ] {
            assert_eq!(mask(line), expected, "{line}");
        }
    }

    #[test]
    fn lines_that_begin_alike_are_of_one_kind() {
        let kinds = ["PASS [  0.1s] a::b", "PASS [ 12.7s] c::d"].map(|line| Template::of(line).kind);
        assert_eq!(kinds[0], kinds[1]);
        assert_eq!(first_words("one two three"), "one two");
        assert_eq!(first_words("  one two"), "  one two");
        assert_eq!(first_words(""), "");
    }

    #[test]
    fn lines_that_differ_in_words_stay_apart() {
        assert_ne!(
            Template::of("cannot open file 3").id,
            Template::of("cannot close file 3").id
        );
    }
}

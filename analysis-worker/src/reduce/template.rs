//! The constant part of a log line: what varies is masked, so that repeated messages count as one.

/// Stands for what varies.
const HOLE: &str = "<*>";

/// The line with every word that holds a digit, and every quoted text, replaced by `<*>`.
///
/// Words are split at blanks and at `= : , ; ( ) [ ] { } " ' / @ |`, which stay. A word with a digit is a number, an
/// identifier, a time, an address or a version: all vary from line to line. Repeated holes with the same separator
/// between them become one, so that lists of different length are one template.
pub(super) fn template(line: &str) -> String {
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
            assert_eq!(template(line), expected, "{line}");
        }
    }

    #[test]
    fn lines_that_differ_in_words_stay_apart() {
        assert_ne!(template("cannot open file 3"), template("cannot close file 3"));
    }
}

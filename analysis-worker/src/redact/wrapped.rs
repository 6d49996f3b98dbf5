//! Values that begin on one line and end on the next: a terminal, a mail program or a YAML writer has broken them.

use std::ops::Range;

use super::finder::{Finder, Hit};
use super::rules::random;

/// Most bytes of either line that are looked at.
const REACH: usize = 300;
/// A line that is shorter is not broken because it was long.
const MIN_WRAPPED: usize = 60;

/// One such value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapped {
    pub(super) kind: &'static str,
    /// Its part at the end of a line, in bytes of the text.
    pub(super) tail: Range<usize>,
    /// Its part at the beginning of the next one.
    pub(super) head: Range<usize>,
}

/// What crosses a line break of `text`, in order. A value of its own shape is found at any break; one that is known by the
/// name in front of it only where a line was broken for its length or ends with a backslash, and what follows is no word: the
/// next line is then not one of its own.
pub(super) fn find(text: &str, finder: &Finder) -> Vec<Wrapped> {
    let mut found: Vec<Wrapped> = Vec::new();
    let mut hits: Vec<Hit> = Vec::new();
    let mut joined = String::new();
    let mut start = 0;
    while let Some(length) = text[start..].find('\n') {
        let end = start + length;
        let line = text[start..end].trim_end_matches('\r');
        let continued = line.ends_with('\\');
        let line_end = line.strip_suffix('\\').unwrap_or(line);
        let next = &text[end + 1..];
        let indented = next.len() - next.trim_start_matches([' ', '\t']).len();
        let head = head(&next[indented..]);
        let by_name = (continued || line.len() >= MIN_WRAPPED) && is_no_word(head);
        let tail = if by_name {
            reach(line_end)
        } else {
            last_word(line_end)
        };
        if !(tail.is_empty() || head.is_empty() || tail.ends_with(char::is_whitespace)) {
            joined.clear();
            joined.push_str(tail);
            joined.push_str(head);
            hits.clear();
            if by_name {
                finder.find(&joined, &mut hits);
            } else {
                finder.find_shapes(&joined, &mut hits);
            }
            let crosses = |hit: &&Hit| hit.range.start < tail.len() && hit.range.end > tail.len();
            // Many shapes have no end: one that is complete with its line goes on only in what can be nothing else.
            let goes_on = |hit: &&Hit| is_made(head) || !is_whole(&tail[hit.range.start..], finder);
            if let Some(hit) = hits.iter().find(crosses).filter(goes_on) {
                let (tail_end, head_start) =
                    (start + line.len() - usize::from(continued), end + 1 + indented);
                let tail_start = tail_end - (tail.len() - hit.range.start);
                // A value over three lines: the part in the middle is gone already.
                if found.last().is_none_or(|last| last.head.end <= tail_start) {
                    found.push(Wrapped {
                        kind: hit.kind,
                        tail: tail_start..tail_end,
                        head: head_start..head_start + (hit.range.end - tail.len()),
                    });
                }
            }
        }
        start = end + 1;
    }
    found
}

/// The end of a line.
fn reach(line: &str) -> &str {
    &line[line.floor_char_boundary(line.len().saturating_sub(REACH))..]
}

/// The last word of a line; empty when the line ends with a blank.
fn last_word(line: &str) -> &str {
    let end = reach(line);
    end.rfind(char::is_whitespace)
        .map_or(end, |place| end[place..].trim_start())
}

/// Whether a value is one without what comes next.
fn is_whole(tail: &str, finder: &Finder) -> bool {
    let mut hits = Vec::new();
    finder.find_shapes(tail, &mut hits);
    hits.iter().any(|hit| hit.range.end == tail.len())
}

/// Whether it can be nothing but a part of a token.
fn is_made(text: &str) -> bool {
    let of_a_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '/' | '=' | '.');
    is_no_word(text)
        && text.chars().all(of_a_token)
        && (text.contains(|c: char| c.is_ascii_digit()) || (text.len() >= 12 && random(text)))
}

/// Whether it looks made: digits and letters, or capitals after small letters, and not a time.
fn is_no_word(text: &str) -> bool {
    let (mut digit, mut letter, mut small, mut mixed) = (false, false, false, false);
    for c in text.chars() {
        digit |= c.is_ascii_digit();
        letter |= c.is_ascii_alphabetic() && !matches!(c, 'T' | 'Z');
        mixed |= small && c.is_ascii_uppercase();
        small |= c.is_ascii_lowercase();
    }
    (digit && letter) || mixed
}

/// The first word of a line.
fn head(line: &str) -> &str {
    let begin = &line[..line.floor_char_boundary(REACH)];
    begin
        .find(char::is_whitespace)
        .map_or(begin, |place| &begin[..place])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(String, String)> {
        find(text, &Finder::new(false))
            .into_iter()
            .map(|value| (text[value.tail].to_owned(), text[value.head].to_owned()))
            .collect()
    }

    fn token() -> String {
        format!("ghp_{}", "a1B2c3D4e5".repeat(4))
    }

    #[test]
    fn a_token_is_found_over_a_line_break() {
        let (head, tail) = (&token()[..20], &token()[20..]);
        let expected = [(head.to_owned(), tail.to_owned())];
        for text in [
            format!("clone with {head}\n{tail} failed"),
            format!("clone with {head}\r\n    {tail}"),
            format!("clone with {head}\\\n{tail}\n"),
        ] {
            assert_eq!(parts(&text), expected, "{text}");
        }
    }

    #[test]
    fn lines_of_their_own_are_left_alone() {
        for text in [
            "password=hunter2\nconnecting to the database",
            "api_key: abcdefghijklmnop1234\nERROR failed",
            "2026-11-29T10:14:03Z INFO starting the worker with the option token=abc123DEF456ghi\n2026-11-29T10:14:04Z INFO started",
            "2026-11-29T10:14:03Z INFO starting the worker with the option token=abc123DEF456ghi\nconnected",
            "a line\n\nanother line",
        ] {
            assert!(parts(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_token_that_ends_with_its_line_takes_nothing_of_the_next() {
        let token = token();
        for next in [
            "RuleID: github-pat",
            "failed",
            "2026-11-29T10:14:03Z retry",
            "Line: 3",
        ] {
            assert!(parts(&format!("token {token}\n{next}")).is_empty(), "{next}");
        }
    }

    #[test]
    fn a_named_value_is_found_where_a_long_line_is_broken() {
        let text = format!(
            "{} client_secret=abcDEF123456\nghiJKL7890123 more",
            "x".repeat(50)
        );
        assert_eq!(
            parts(&text),
            [("abcDEF123456".to_owned(), "ghiJKL7890123".to_owned())]
        );
    }
}

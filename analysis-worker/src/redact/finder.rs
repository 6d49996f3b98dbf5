//! Finds what the rules describe in one line: first the words that a rule cannot do without, then its pattern.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;

use super::rules::{Rule, rules};

/// A value to take out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) kind: &'static str,
    /// Bytes of the line.
    pub(super) range: Range<usize>,
}

/// Rules, by place in their table.
type Set = u128;

/// The rules, compiled.
pub(super) struct Finder {
    rules: Vec<(Rule, Regex)>,
    words: AhoCorasick,
    /// Which rules each word belongs to.
    of_word: Vec<Set>,
    /// Rules that need digits instead of a word.
    of_digits: Set,
    /// Rules that are tried on every line.
    always: Set,
}

/// Digits without which no number of a card or an account is in a line.
const MIN_DIGITS: usize = 8;

impl Finder {
    pub(super) fn new(addresses: bool) -> Self {
        let rules: Vec<(Rule, Regex)> = rules(addresses)
            .into_iter()
            .map(|rule| {
                let pattern = pattern(&rule.pattern);
                (rule, pattern)
            })
            .collect();
        let (mut words, mut of_word): (Vec<&str>, Vec<Set>) = (Vec::new(), Vec::new());
        let (mut of_digits, mut always) = (0, 0);
        for (place, (rule, _)) in rules.iter().enumerate() {
            let this: Set = 1 << place;
            match rule.words {
                [] => always |= this,
                ["0-9"] => of_digits |= this,
                named => {
                    for word in named {
                        if let Some(known) = words.iter().position(|known| known == word) {
                            of_word[known] |= this;
                        } else {
                            words.push(word);
                            of_word.push(this);
                        }
                    }
                }
            }
        }
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(words)
            .expect("the words of the program are few");
        Self {
            rules,
            words,
            of_word,
            of_digits,
            always,
        }
    }

    /// How many there are.
    pub(super) fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Rules that may match in `text`.
    fn candidates(&self, text: &str) -> Set {
        let mut candidates = self.always;
        for found in self.words.find_overlapping_iter(text) {
            candidates |= self.of_word[found.pattern().as_usize()];
        }
        if self.of_digits != 0
            && text
                .bytes()
                .filter(u8::is_ascii_digit)
                .nth(MIN_DIGITS - 1)
                .is_some()
        {
            candidates |= self.of_digits;
        }
        candidates
    }

    /// Adds what is found in `text`, by place and without overlaps. An earlier rule has the value, unless a later one has more
    /// of the text around it.
    pub(super) fn find(&self, text: &str, hits: &mut Vec<Hit>) {
        self.find_by(text, self.candidates(text), hits);
    }

    /// The same with the rules alone that know a value by itself, not by the name in front of it.
    pub(super) fn find_shapes(&self, text: &str, hits: &mut Vec<Hit>) {
        let mut candidates = self.candidates(text);
        for (place, (rule, _)) in self.rules.iter().enumerate() {
            if !rule.is_shape {
                candidates &= !(1 << place);
            }
        }
        self.find_by(text, candidates, hits);
    }

    fn find_by(&self, text: &str, mut candidates: Set, hits: &mut Vec<Hit>) {
        while candidates != 0 {
            let (rule, pattern) = &self.rules[candidates.trailing_zeros() as usize];
            candidates &= candidates - 1;
            for found in pattern.captures_iter(text) {
                let value = found.name("value").expect("every rule has this group");
                if in_placeholder(text, value.start()) || !(rule.accept)(value.as_str()) {
                    continue;
                }
                // The password of a URL with its host looks like an address of mail.
                let taken = |hit: &Hit| hit.range.start < value.end() && value.start() < hit.range.end;
                if rule.is_personal() && hits.iter().any(taken) {
                    continue;
                }
                add(
                    hits,
                    Hit {
                        kind: rule.kind,
                        range: value.range(),
                    },
                );
            }
        }
    }
}

/// Adds a hit where it belongs. What it overlaps becomes a part of it if it has all of that, and is made longer otherwise.
pub(super) fn add(hits: &mut Vec<Hit>, mut hit: Hit) {
    let first = hits.partition_point(|other| other.range.end <= hit.range.start);
    let mut last = first;
    while let Some(other) = hits.get(last).filter(|other| other.range.start < hit.range.end) {
        let contains = hit.range.start <= other.range.start && other.range.end <= hit.range.end;
        let same = hit.range == other.range;
        if !contains || same {
            hit.kind = other.kind;
        }
        hit.range.start = hit.range.start.min(other.range.start);
        hit.range.end = hit.range.end.max(other.range.end);
        last += 1;
    }
    hits.splice(first..last, [hit]);
}

/// A pattern of the program; boundaries of words are those of ASCII, for which the fast engine needs no other.
pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(&text.replace(r"\b", r"(?-u:\b)"))
        .expect("a pattern of the program compiles; the tests build them all")
}

/// Whether `at` lies in a placeholder of an earlier rule, whose kind may look like the name of a secret.
fn in_placeholder(text: &str, at: usize) -> bool {
    let longest = "[REDACTED:".len() + 48;
    let before = &text[text.floor_char_boundary(at.saturating_sub(longest))..at];
    text[at..].starts_with("[REDACTED:")
        || before
            .rfind("[REDACTED:")
            .is_some_and(|from| !before[from..].contains(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(kind: &'static str, range: Range<usize>) -> Hit {
        Hit { kind, range }
    }

    #[test]
    fn hits_do_not_overlap() {
        let mut hits = Vec::new();
        for next in [
            hit("a", 10..20),
            hit("b", 30..40),
            hit("c", 12..15),
            hit("d", 35..45),
            hit("e", 0..5),
        ] {
            add(&mut hits, next);
        }
        assert_eq!(hits, [hit("e", 0..5), hit("a", 10..20), hit("b", 30..45)]);
        add(&mut hits, hit("f", 2..50));
        assert_eq!(hits, [hit("e", 0..50)]);
        add(&mut hits, hit("g", 0..60));
        assert_eq!(hits, [hit("g", 0..60)]);
    }

    #[test]
    fn every_rule_has_its_place_and_its_group() {
        let finder = Finder::new(true);
        assert!(finder.rules() <= 128, "{}", finder.rules());
        for (rule, pattern) in &finder.rules {
            assert!(
                pattern.capture_names().flatten().any(|name| name == "value"),
                "{}",
                rule.kind
            );
            assert!(rule.words.iter().all(|word| !word.is_empty()), "{}", rule.kind);
        }
    }
}

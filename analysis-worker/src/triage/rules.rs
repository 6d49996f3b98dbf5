//! The lines that tools write when something is wrong.
//!
//! A rule is about a tool's format, never about a project. Its groups say what the line names: `subject` (a test, a
//! rule, a package), `file`, `line`, `message`, `severity`, `fixed`.

mod code;
mod delivery;
mod infrastructure;
mod security;
mod tests;

use std::sync::{LazyLock, OnceLock};

use regex::Regex;
use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::report::FailureType;

/// Where the file of a finding stands when its line has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the line, or nowhere.
    Here,
    /// In one of the lines before it.
    Before,
    /// In one of the lines after it.
    After,
}

/// One kind of line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) kind: FailureType,
    pub(super) tool: &'static str,
    /// 9: the tool's verdict. 7: one of its findings. 5: usual for it, and for others. 3: a hint.
    pub(super) weight: u8,
    pub(super) place: Place,
    pattern: &'static str,
}

impl Rule {
    const fn new(kind: FailureType, tool: &'static str, weight: u8, pattern: &'static str) -> Self {
        Self {
            kind,
            tool,
            weight,
            place: Place::Here,
            pattern,
        }
    }

    /// What tells it from the others.
    pub(super) const fn name(&self) -> &'static str {
        self.pattern
    }

    const fn after(mut self) -> Self {
        self.place = Place::After;
        self
    }

    const fn before(mut self) -> Self {
        self.place = Place::Before;
        self
    }
}

/// All rules. One set finds those that a line fits, without Unicode's tables, which would take most of the memory; what
/// a line names is read by the rule's own pattern, compiled when the first line fits it.
pub(super) struct Rules {
    set: RegexSet,
    rules: Vec<(Rule, OnceLock<Regex>)>,
}

pub(super) static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let all = [
        code::RULES,
        tests::RULES,
        security::RULES,
        delivery::RULES,
        infrastructure::RULES,
    ];
    let rules: Vec<Rule> = all.concat();
    let set = RegexSetBuilder::new(rules.iter().map(|rule| rule.pattern))
        .unicode(false)
        .size_limit(64 << 20)
        // The default makes its states again and again, at a fraction of the speed.
        .dfa_size_limit(8 << 20)
        .build()
        .expect("patterns are constants");
    let rules = rules.into_iter().map(|rule| (rule, OnceLock::new()));
    Rules {
        set,
        rules: rules.collect(),
    }
});

impl Rules {
    /// The rules that a line fits, with what they find in it.
    pub(super) fn of<'l>(
        &'static self,
        line: &'l str,
    ) -> impl Iterator<Item = (&'static Rule, regex::Captures<'l>)> {
        let fitting = self.set.matches(line.as_bytes()).into_iter();
        fitting.filter_map(move |index| {
            let (rule, pattern) = &self.rules[index];
            let pattern = pattern.get_or_init(|| Regex::new(rule.pattern).expect("patterns are constants"));
            Some((rule, pattern.captures(line)?))
        })
    }
}

#[cfg(test)]
mod examples;

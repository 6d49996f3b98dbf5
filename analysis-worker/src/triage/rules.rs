//! The lines that tools write when something is wrong.
//!
//! A rule is about a tool's format, never about a project. Its groups say what the line names: `subject` (a test, a
//! rule, a package), `file`, `line`, `message`, `severity`, `fixed`.

mod code;
mod delivery;
mod infrastructure;
mod security;
mod tests;

use std::sync::LazyLock;

use regex::{Regex, RegexSet, RegexSetBuilder};

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

/// All rules, compiled once.
pub(super) struct Rules {
    set: RegexSet,
    rules: Vec<(Rule, Regex)>,
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
        .size_limit(64 << 20)
        .dfa_size_limit(16 << 20)
        .build()
        .expect("patterns are constants");
    let rules = rules
        .into_iter()
        .map(|rule| {
            let pattern = Regex::new(rule.pattern).expect("patterns are constants");
            (rule, pattern)
        })
        .collect();
    Rules { set, rules }
});

impl Rules {
    /// The rules that a line fits, with what they find in it.
    pub(super) fn of<'l>(
        &'static self,
        line: &'l str,
    ) -> impl Iterator<Item = (&'static Rule, regex::Captures<'l>)> {
        self.set.matches(line).into_iter().filter_map(move |index| {
            let (rule, pattern) = &self.rules[index];
            Some((rule, pattern.captures(line)?))
        })
    }
}

#[cfg(test)]
mod examples;

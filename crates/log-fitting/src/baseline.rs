//! What a log of a good run has: lines like those explain nothing.

use std::collections::HashSet;

use crate::line::Line;
use crate::template::Template;

/// Templates remembered; of a run with more, the first.
const MAX_TEMPLATES: usize = 200_000;

/// The templates of logs in which all went well.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    templates: HashSet<u64>,
}

impl Baseline {
    /// Adds a line of a good run.
    pub fn add(&mut self, line: &Line) {
        if self.templates.len() < MAX_TEMPLATES {
            self.templates.insert(Template::of(line.body()).id);
        }
    }

    pub(crate) fn has(&self, template: u64) -> bool {
        self.templates.contains(&template)
    }
}

impl<'a> FromIterator<&'a Line> for Baseline {
    fn from_iter<I: IntoIterator<Item = &'a Line>>(lines: I) -> Self {
        let mut baseline = Self::default();
        for line in lines {
            baseline.add(line);
        }
        baseline
    }
}

//! Why a profile cannot be used.

use std::path::PathBuf;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not JSON, or not of this shape.
    #[error("`{path}` (line {line}, column {column}): {reason}")]
    Shape {
        /// Where in the document, such as `features[3].numeric.edges`; `.` for the whole of it.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What was expected and found.
        reason: String,
    },
    /// The right shape with contents that contradict each other; all problems at once.
    #[error("{} in the profile{}", count_problems(.0.len()), list_problems(.0))]
    Invalid(Vec<Problem>),
    /// Two profiles of different things; all differences at once.
    #[error("the profiles do not merge: {}{}", count_problems(.0.len()), list_problems(.0))]
    Merge(Vec<Problem>),
    /// The file cannot be read or written.
    #[error("profile {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// One contradiction in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `features[3].numeric.edges`.
    pub path: String,
    /// What was expected, and what was found instead.
    pub reason: String,
}

fn count_problems(n: usize) -> String {
    if n == 1 {
        "1 problem".to_owned()
    } else {
        format!("{n} problems")
    }
}

fn list_problems(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |text, p| {
        text + "\n  `" + &p.path + "`: " + &p.reason
    })
}

impl ProfileError {
    pub(super) fn shape(path: String, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // serde_json repeats the place at the end of its message; it has its own fields here.
        let reason = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |(reason, _)| reason)
            .to_owned();
        Self::Shape {
            path,
            line: error.line(),
            column: error.column(),
            reason,
        }
    }
}

//! Which kind of failure it is: from what is detected, and from the names of job and step.

use super::Detection;
use crate::report::FailureType;

/// Least score of a kind that is claimed from what is detected, and from names alone.
const ENOUGH: u32 = 400;
const ENOUGH_OF_A_NAME: u32 = 250;
/// What a detection outside the steps that failed counts, in per cent.
const ELSEWHERE: u32 = 40;
/// What each further detection of a kind adds to its best one, up to [`MAX_FURTHER`] of them.
const FURTHER: u32 = 25;
const MAX_FURTHER: usize = 6;

/// A kind of failure and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Classified {
    pub(crate) kind: FailureType,
    /// In hundredths of a detection's weight.
    pub(crate) score: u32,
    /// In `[0, 1]`.
    pub(crate) confidence: f64,
}

impl Classified {
    const NOTHING: Self = Self {
        kind: FailureType::Unknown,
        score: 0,
        confidence: 0.2,
    };
}

/// Decides. The best detection of a kind counts most; more of them, and names that speak of it, a little.
pub(crate) fn classify(detections: &[Detection], job: Option<&str>, step: Option<&str>) -> Classified {
    let named = named(job, step);
    let mut scores: Vec<(FailureType, u32)> = FailureType::ALL
        .into_iter()
        .map(|kind| {
            let detected = score(kind, detections);
            // A name alone says what a step is for, not what went wrong in it.
            let of_name = named
                .iter()
                .find(|(of, _)| *of == kind)
                .map_or(0, |(_, score)| *score);
            (
                kind,
                if detected > 0 {
                    detected + of_name / 2
                } else {
                    of_name
                },
            )
        })
        .collect();
    // The first of equals stays first.
    scores.sort_by_key(|(_, score)| std::cmp::Reverse(*score));
    let ((kind, best), (_, next)) = (scores[0], scores[1]);
    let only_named = score(kind, detections) == 0;
    if best < if only_named { ENOUGH_OF_A_NAME } else { ENOUGH } {
        return Classified::NOTHING;
    }
    let confidence = match (only_named, best, best - next) {
        (true, ..) => 0.4,
        (_, 850.., 200..) => 0.85,
        (_, 700.., 100..) => 0.75,
        (_, 600.., _) => 0.65,
        _ => 0.5,
    };
    Classified {
        kind,
        score: best,
        confidence,
    }
}

fn score(kind: FailureType, detections: &[Detection]) -> u32 {
    let weights = detections
        .iter()
        .filter(|detection| detection.kind == kind)
        .map(|detection| {
            let weight = u32::from(detection.weight) * 100;
            if detection.in_failed_step {
                weight
            } else {
                weight * ELSEWHERE / 100
            }
        });
    let best = weights.clone().max().unwrap_or(0);
    let further = weights.filter(|weight| *weight + 300 >= best).count();
    best + FURTHER * further.saturating_sub(1).min(MAX_FURTHER) as u32
}

/// What the names speak of, best first. A tool's name says more than what a step is called, a step more than a job.
fn named(job: Option<&str>, step: Option<&str>) -> Vec<(FailureType, u32)> {
    let mut named = Vec::new();
    for (name, share) in [(step, 100), (job, 75)] {
        let words = words(name.unwrap_or_default());
        for (kind, score, phrases) in NAMES {
            let has = phrases
                .iter()
                .any(|phrase| words.contains(&format!(" {phrase} ")));
            if has {
                named.push((*kind, score * share / 100));
            }
        }
    }
    named.sort_by_key(|(_, score)| std::cmp::Reverse(*score));
    named
}

/// In lower case, single blanks between words and around them.
fn words(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                ' '
            }
        })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    format!(" {} ", words.join(" "))
}

/// Names of tools, and of what steps are called, with what they count.
const NAMES: &[(FailureType, u32, &[&str])] = &[
    (
        FailureType::Lint,
        450,
        &[
            "eslint",
            "ruff",
            "flake8",
            "mypy",
            "pyright",
            "clippy",
            "prettier",
            "rustfmt",
            "cargo fmt",
            "black",
            "pylint",
            "golangci",
            "golangci lint",
            "shellcheck",
            "pre commit",
            "tsc",
            "checkstyle",
            "clang tidy",
            "clang format",
            "lintrunner",
            "typecheck",
            "type check",
            "biome",
            "actionlint",
            "hadolint",
            "markdownlint",
            "yamllint",
            "helm lint",
            "spotless",
            "ktlint",
            "detekt",
            "stylelint",
            "rubocop",
            "cargo check",
        ],
    ),
    (
        FailureType::Test,
        450,
        &[
            "pytest",
            "jest",
            "vitest",
            "mocha",
            "cargo test",
            "nextest",
            "go test",
            "ctest",
            "rspec",
            "phpunit",
            "unittest",
            "playwright",
            "cypress",
            "ginkgo",
            "mochitest",
            "xpcshell",
            "tox",
            "nox",
            "npm test",
            "yarn test",
            "pnpm test",
            "make test",
            "gtest",
            "junit",
        ],
    ),
    (
        FailureType::SecuritySast,
        450,
        &["semgrep", "bandit", "codeql", "gosec", "brakeman", "sast"],
    ),
    (
        FailureType::SecuritySca,
        450,
        &[
            "pip audit",
            "cargo audit",
            "cargo deny",
            "npm audit",
            "yarn audit",
            "osv scanner",
            "govulncheck",
            "snyk",
            "dependency review",
            "dependency check",
            "safety check",
            "sca",
        ],
    ),
    (
        FailureType::Secret,
        450,
        &[
            "gitleaks",
            "trufflehog",
            "detect secrets",
            "ggshield",
            "secret scan",
            "secret scanning",
        ],
    ),
    (
        FailureType::ContainerCve,
        450,
        &[
            "trivy",
            "grype",
            "docker scout",
            "clair",
            "image scan",
            "container scan",
            "scan image",
        ],
    ),
    (
        FailureType::ModelValidation,
        450,
        &[
            "model validation",
            "validate model",
            "model gate",
            "quality gate",
            "evaluate model",
            "model evaluation",
            "data validation",
        ],
    ),
    (
        FailureType::Training,
        450,
        &[
            "train",
            "training",
            "train model",
            "retrain",
            "retraining",
            "fit model",
        ],
    ),
    (
        FailureType::Deployment,
        450,
        &[
            "helm upgrade",
            "helm install",
            "kubectl",
            "argocd",
            "argo cd",
            "kustomize",
            "terraform",
            "rollout",
            "deploy",
            "deployment",
        ],
    ),
    (
        FailureType::Infrastructure,
        450,
        &[
            "actions checkout",
            "set up job",
            "docker login action",
            "actions download artifact",
            "actions cache",
            "initialize containers",
            "actions setup python",
            "actions setup node",
            "actions setup go",
            "actions setup java",
        ],
    ),
    (
        FailureType::Lint,
        250,
        &[
            "lint",
            "linting",
            "linters",
            "format",
            "formatting",
            "fmt",
            "style",
            "typing",
        ],
    ),
    (
        FailureType::Test,
        250,
        &["test", "tests", "testing", "e2e", "integration", "unit"],
    ),
    (FailureType::Deployment, 250, &["release", "publish", "promote"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triage::Scan;

    fn classified(log: &str, job: Option<&str>, step: Option<&str>) -> FailureType {
        let mut scan = Scan::default();
        for (index, line) in log.lines().enumerate() {
            scan.line(index + 1, line);
        }
        let scanned = scan.finish();
        let step = step.map(str::to_owned).or(scanned.step);
        classify(&scanned.detections, job, step.as_deref()).kind
    }

    #[test]
    fn a_verdict_outweighs_what_is_only_usual() {
        for (log, expected) in [
            // A test of a compiler's messages is a test.
            (
                "error[E0308]: mismatched types\n --> tests/fail/a.rs:5:9\ntest compile_fail ... FAILED\ntest result: FAILED. 3 passed; 1 failed\n",
                FailureType::Test,
            ),
            (
                "error[E0308]: mismatched types\n --> src/a.rs:5:9\nerror: could not compile `a`\n",
                FailureType::Lint,
            ),
            // A test that could not reach a host is still a test; the disk that was full is not.
            (
                "FAILED tests/a.py::t - ConnectionError: connection refused\n1 failed in 3.2s\n",
                FailureType::Test,
            ),
            (
                "FAILED tests/a.py::t - OSError: [Errno 28] No space left on device\n",
                FailureType::Infrastructure,
            ),
            ("sh: 1: pnpm: not found\n", FailureType::Infrastructure),
            ("it did not work\n", FailureType::Unknown),
        ] {
            assert_eq!(classified(log, None, None), expected, "{log}");
        }
    }

    #[test]
    fn names_decide_where_nothing_is_detected() {
        assert_eq!(
            classified("exit 1\n", Some("build"), Some("Run prettier")),
            FailureType::Lint
        );
        assert_eq!(
            classified("exit 1\n", Some("train"), Some("make all")),
            FailureType::Training
        );
        assert_eq!(
            classified("exit 1\n", None, Some("Train the model")),
            FailureType::Training
        );
        assert_eq!(
            classified("exit 1\n", Some("tests"), Some("collect")),
            FailureType::Unknown
        );
        let error = "ValueError: could not convert string to float\n";
        assert_eq!(
            classified(error, None, Some("python -m churn.train")),
            FailureType::Training
        );
    }
}

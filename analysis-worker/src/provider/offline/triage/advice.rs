//! What a detection usually means, what may happen, what to do, and whether it may be wrong.

use crate::report::{FailureType, FalsePositive, Verdict};
use crate::triage::Detection;

/// Whose turn it is.
pub(super) fn turn(kind: FailureType) -> &'static str {
    match kind {
        FailureType::Lint => "whoever wrote the change repairs it.",
        FailureType::Test => "whoever wrote the change looks at the test first.",
        FailureType::SecuritySast => {
            "whoever wrote the code judges it, together with who is in charge of security."
        }
        FailureType::SecuritySca => "whoever looks after the dependencies raises a version.",
        FailureType::Secret => "whoever owns the credential revokes it now.",
        FailureType::ContainerCve => "whoever looks after the image rebuilds it.",
        FailureType::ModelValidation => "whoever trains the model compares it with the one in production.",
        FailureType::Training => "whoever trains the model looks at data and settings.",
        FailureType::Deployment => "whoever runs the platform looks at the release.",
        FailureType::Infrastructure => {
            "the code may be fine; whoever looks after the pipeline repairs it or runs it again."
        }
        FailureType::Unknown => "somebody has to read the log.",
    }
}

/// What such a finding means.
pub(super) fn meaning(detection: &Detection) -> &'static str {
    match (detection.kind, detection.tool.as_str()) {
        (FailureType::Lint, "git") => "A mark of a merge conflict was committed, so the file cannot be read.",
        (FailureType::Lint, "prettier" | "black" | "rustfmt" | "gofmt" | "clang-format" | "isort") => {
            "The file is not formatted as the project wants it; what it does is not affected."
        }
        (
            FailureType::Lint,
            "rustc" | "compiler" | "linker" | "tsc" | "go build" | "maven" | "kotlinc" | "ninja" | "swiftc"
            | "cmake" | "bazel",
        ) => "The code does not compile, so nothing after this step ran.",
        (FailureType::Lint, "mypy" | "pyright" | "flow") => {
            "A value may have another type than the code says."
        }
        (FailureType::Lint, _) => "A rule of the project is broken.",
        (FailureType::Test, "sanitizer") => {
            "Memory or threads are used in a way that may break anything later."
        }
        (FailureType::Test, _) => "What the code does is not what the test expects.",
        (FailureType::SecuritySast, _) => {
            "The code has a form that is known to be exploitable when foreign input reaches it."
        }
        (FailureType::SecuritySca, "cargo deny") => {
            "A dependency is vulnerable, or the project's policy does not allow it."
        }
        (FailureType::SecuritySca, _) => "A dependency of this version has a known vulnerability.",
        (FailureType::Secret, _) => {
            "Something that looks like a credential is in the files or in their history."
        }
        (FailureType::ContainerCve, _) => "A package of the image has a known vulnerability.",
        (FailureType::ModelValidation, _) => {
            "The model is worse than what the gate asks for, so it must not be promoted."
        }
        (FailureType::Training, _) => "Training did not come to an end, so there is no new model.",
        (FailureType::Deployment, _) => "The cluster did not take the release, or it did not become ready.",
        (FailureType::Infrastructure, "memory" | "disk") => {
            "The machine has too little for what the job does."
        }
        (
            FailureType::Infrastructure,
            "network" | "rate limit" | "certificate" | "cache service" | "download",
        ) => "Something outside could not be reached.",
        (FailureType::Infrastructure, "permissions") => "The job's identity may not do what it tries to do.",
        (FailureType::Infrastructure, "runner" | "hardware") => {
            "The machine or whoever ran it ended the job."
        }
        (FailureType::Infrastructure, "missing tool" | "missing library") => {
            "The job needs something that is not installed where it runs."
        }
        (
            FailureType::Infrastructure,
            "pip" | "uv" | "npm" | "yarn" | "Cargo" | "Go modules" | "apt" | "conda" | "Gradle" | "Maven"
            | "Python packages",
        ) => "The packages that the job needs cannot be installed together, or not be had.",
        (FailureType::Infrastructure, _) => {
            "The workflow or one of its tools failed, not the code under test."
        }
        (FailureType::Unknown, _) => "What it means is not known here.",
    }
}

/// What may happen if nobody acts.
pub(super) fn risk(detection: &Detection, on_default_branch: bool) -> String {
    let of_branch = if on_default_branch {
        "The default branch is red: whoever merges next builds on it, and further failures hide behind this one."
    } else {
        "The change cannot be merged before it is repaired; the default branch is not affected."
    };
    let severity = detection.severity.as_deref().unwrap_or("unknown");
    match detection.kind {
        FailureType::Secret => {
            "Whoever can read the repository, a fork or a log can use it, also after the file is deleted.".to_owned()
        }
        FailureType::SecuritySast => format!(
            "Severity {severity}: whether it can be exploited depends on whether foreign input reaches this place. {of_branch}"
        ),
        FailureType::SecuritySca => format!(
            "Severity {severity}: whoever reaches the vulnerable function through this service can use it. {of_branch}"
        ),
        FailureType::ContainerCve => format!(
            "Severity {severity}: it counts once the image runs where foreign input reaches the package. {of_branch}"
        ),
        FailureType::ModelValidation => {
            "If it were promoted all the same, predictions would be worse than today's; the model in production is not affected.".to_owned()
        }
        FailureType::Training => "The model in production grows older; nothing else is affected.".to_owned(),
        FailureType::Deployment => {
            "The new version does not serve, or only in part; what ran before usually still does.".to_owned()
        }
        FailureType::Infrastructure => {
            "Nothing is known to be wrong with the change; until this is repaired, nothing is known to be right with it either.".to_owned()
        }
        FailureType::Lint | FailureType::Test | FailureType::Unknown => of_branch.to_owned(),
    }
}

/// What to change.
pub(super) fn fix(detection: &Detection) -> String {
    let place = if detection.file.is_some() {
        "the named place"
    } else {
        "the place that the log names"
    };
    match (detection.kind, detection.tool.as_str()) {
        (FailureType::Lint, "git") => "resolve the conflict in the named file and commit it".to_owned(),
        (FailureType::Lint, tool @ ("prettier" | "black" | "rustfmt" | "gofmt" | "clang-format" | "isort")) => {
            format!("run {tool} with the project's settings over the named file and commit what it changes")
        }
        (FailureType::Lint, "generated files") => "run the generator again and commit what it changes".to_owned(),
        (FailureType::Lint, tool) => format!("change {place} so that {tool} accepts it; silence the rule only with a reason beside it"),
        (FailureType::Test, "sanitizer") => format!("follow the stack of the report to {place} and repair the access there"),
        (FailureType::Test, _) => format!(
            "run this test alone, compare what it expects with what it got, and change the code at {place}; change the test only if the new behaviour is wanted"
        ),
        (FailureType::SecuritySast, _) => format!("change {place} so that foreign input cannot reach it unchecked; if it cannot, suppress the rule there with the reason"),
        (FailureType::SecuritySca | FailureType::ContainerCve, _) => match &detection.fixed_in {
            Some(version) => format!("raise the package to {version} or later and lock it"),
            None if detection.kind == FailureType::ContainerCve => "rebuild on a newer base image; if there is no fixed version yet, note the exception with an end date".to_owned(),
            None => "raise the package to a version without the vulnerability; if there is none yet, replace it or note the exception with an end date".to_owned(),
        },
        (FailureType::Secret, _) => "revoke the credential where it was issued, then remove it from the file and read it from the environment; removing it from the history alone does not help".to_owned(),
        (FailureType::ModelValidation, _) => "compare the metric by segment with the last promoted model; look at what changed in data and features before the threshold is touched".to_owned(),
        (FailureType::Training, _) => "look at the first rows and the settings that the failing step read; run it on a small part of the data".to_owned(),
        (FailureType::Deployment, "Helm" | "Kustomize" | "Terraform") => format!("render the release without applying it and repair {place}"),
        (FailureType::Deployment, _) => "look at events and logs of the pods of the release; go back one version if it serves".to_owned(),
        (FailureType::Infrastructure, "memory") => "give the job a larger machine, or let it do less at a time".to_owned(),
        (FailureType::Infrastructure, "disk") => "free space before the step, or give the job a larger disk".to_owned(),
        (FailureType::Infrastructure, "rate limit") => "run it again later; use a token of its own and fewer requests".to_owned(),
        (FailureType::Infrastructure, "network" | "cache service" | "download" | "runner" | "hardware") => "run the job again; if it comes back, look at the service or the machine that is named".to_owned(),
        (FailureType::Infrastructure, "permissions") => "give the job's token or role exactly the permission that is named".to_owned(),
        (FailureType::Infrastructure, "missing tool" | "missing library") => "install it in a step before this one, or use an image that has it".to_owned(),
        (FailureType::Infrastructure, "workflow") => "look at the job that this one depends on, and at the names in the workflow file".to_owned(),
        (FailureType::Infrastructure, "git") => "check that the ref exists and that the job may read and write it".to_owned(),
        (FailureType::Infrastructure, _) => "repair what is named in the set-up of the job; lock the versions that work".to_owned(),
        (FailureType::Unknown, _) => "read the lines around the quoted one".to_owned(),
    }
}

/// Whether it may be wrong. `is_changed`: whether its file changed since the last green run, where that is known;
/// `same_commit`: whether this very commit was green before.
pub(super) fn false_positive(
    detection: &Detection,
    is_changed: Option<bool>,
    same_commit: bool,
) -> FalsePositive {
    let judge = |verdict, reason: &str| FalsePositive {
        verdict,
        reason: reason.to_owned(),
    };
    let path = detection.file.as_deref().unwrap_or_default().to_ascii_lowercase();
    let of_tests = ["test", "example", "fixture", "sample", "mock"]
        .iter()
        .any(|word| path.contains(word));
    let said = detection.quote.to_ascii_lowercase();
    let waits = [
        "timed out",
        "timeout",
        "connection",
        "did not complete in time",
        "flaky",
        "deadline",
    ]
    .iter()
    .any(|word| said.contains(word));
    match detection.kind {
        FailureType::Test if same_commit => judge(
            Verdict::Likely,
            "the same commit was green before: the test depends on something besides the code",
        ),
        FailureType::Test if waits => judge(
            Verdict::Unclear,
            "it waited for something: such tests also fail now and then without a cause in the code; run it again alone",
        ),
        FailureType::Test => match is_changed {
            Some(true) => judge(Verdict::Unlikely, "its file changed since the last green run"),
            Some(false) => judge(
                Verdict::Unclear,
                "its file did not change since the last green run; what it calls, or a dependency, may have",
            ),
            None => judge(
                Verdict::Unclear,
                "what changed since the last green run is not known",
            ),
        },
        FailureType::Lint => judge(
            Verdict::Unlikely,
            "the tool says the same of the same code every time",
        ),
        FailureType::Secret if said.contains("unverified") || of_tests => judge(
            Verdict::Likely,
            "nobody has tried the credential, and its place speaks of a test or an example; ask its owner all the same",
        ),
        FailureType::Secret if said.contains("verified") => judge(
            Verdict::Unlikely,
            "the scanner tried the credential, and it works",
        ),
        FailureType::Secret => judge(
            Verdict::Unclear,
            "scanners go by the form of a text; only its owner knows whether it is in use",
        ),
        FailureType::SecuritySast if of_tests => judge(
            Verdict::Likely,
            "the place is in tests or examples, which foreign input does not reach",
        ),
        FailureType::SecuritySast => judge(
            Verdict::Unclear,
            "a scanner does not see whether foreign input can reach the place",
        ),
        FailureType::SecuritySca | FailureType::ContainerCve => match detection.fixed_in {
            Some(_) => judge(
                Verdict::Unlikely,
                "the version in use is listed, and a fixed one exists; whether the vulnerable part is called is not known",
            ),
            None => judge(
                Verdict::Unclear,
                "whether the vulnerable part is called is not known, and no fixed version is named",
            ),
        },
        FailureType::Infrastructure => match detection.tool.as_str() {
            "network" | "runner" | "rate limit" | "cache service" | "hardware" | "download" => judge(
                Verdict::Likely,
                "it says nothing about the change: the same commit may pass when it runs again",
            ),
            _ => judge(
                Verdict::Unlikely,
                "it comes back with every run until the set-up is repaired",
            ),
        },
        FailureType::ModelValidation => judge(
            Verdict::Unlikely,
            "the gate compares numbers; only a difference within the noise of the held-out rows would be one",
        ),
        FailureType::Training | FailureType::Deployment => {
            judge(Verdict::Unlikely, "the step did not do what it is there for")
        }
        FailureType::Unknown => judge(Verdict::Unclear, "no tool of the log is known here"),
    }
}

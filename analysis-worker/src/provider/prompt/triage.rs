//! What a model is asked about a failed pipeline, by the kind of failure that code has found.

use crate::report::FailureType;

const COMMON: &str = include_str!("../../../prompts/triage/common.md");

/// The task; nothing in it comes from outside.
pub(super) fn task(kind: FailureType) -> String {
    let of_kind = match kind {
        FailureType::Lint => include_str!("../../../prompts/triage/lint.md"),
        FailureType::Test => include_str!("../../../prompts/triage/test.md"),
        FailureType::SecuritySast => include_str!("../../../prompts/triage/security_sast.md"),
        FailureType::SecuritySca => include_str!("../../../prompts/triage/security_sca.md"),
        FailureType::Secret => include_str!("../../../prompts/triage/secret.md"),
        FailureType::ContainerCve => include_str!("../../../prompts/triage/container_cve.md"),
        FailureType::ModelValidation => include_str!("../../../prompts/triage/model_validation.md"),
        FailureType::Training => include_str!("../../../prompts/triage/training.md"),
        FailureType::Deployment => include_str!("../../../prompts/triage/deployment.md"),
        FailureType::Infrastructure => include_str!("../../../prompts/triage/infrastructure.md"),
        FailureType::Unknown => include_str!("../../../prompts/triage/unknown.md"),
    };
    format!("{}\n{}", COMMON.trim(), of_kind.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::prompt::tests::case;
    use crate::provider::prompt::{SYSTEM, build};
    use crate::signal::{PIPELINE, digest};
    use crate::triage::{FailedJob, Pipeline};

    /// A change of a prompt is a change of what models answer: it has to be made here, too, so that nobody makes one
    /// by accident. Compare answers before and after.
    #[test]
    fn prompts_are_those_that_were_looked_at() {
        let found: Vec<String> = FailureType::ALL
            .into_iter()
            .map(|kind| format!("{} {}", kind.as_str(), &digest(&[&task(kind)])[..12]))
            .collect();
        let expected = include_str!("../../../prompts/triage/digests.txt");
        assert_eq!(found.join("\n"), expected.trim());
    }

    #[test]
    fn the_kind_that_code_has_found_chooses_the_prompt() {
        let mut case = case("3: FAILED tests/a.py::t");
        case.subject.kind = PIPELINE.to_owned();
        let job = FailedJob::new("unit".to_owned(), Some("pytest".to_owned()), None, Vec::new());
        case.context.pipeline = Some(Pipeline {
            on_default_branch: false,
            jobs: vec![job],
        });
        let prompt = build(&case, None).text;
        let nonce = prompt
            .lines()
            .find_map(|line| line.strip_prefix("BEGIN DATA "))
            .expect("a nonce");
        let shown = format!("{SYSTEM}\n\n{}", prompt.replace(nonce, "NONCE"));
        assert_eq!(shown, include_str!("../../../tests/golden/triage-prompt.txt"));
    }
}

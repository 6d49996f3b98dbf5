use super::*;
use crate::collect::pipeline::{LogToTriage, PipelineCollector};
use crate::config::Config;
use crate::github::GitHub;
use crate::http::HttpClient;
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::report::{Findings, Subject, validate};

async fn case(log: LogToTriage) -> Case {
    let config = Config::on_loopback("unused.db".into());
    let collector = PipelineCollector {
        github: GitHub::new(&config.github, HttpClient::new()),
        redactor: Redactor::new(&[], false),
        metrics: Metrics::declare(&plumbline_service::metrics::Metrics::default()),
        log_budget: 2_000,
    };
    let context = collector.log(log).await;
    let urgency = context.pipeline.as_ref().map_or(Urgency::P2, Pipeline::urgency);
    Case {
        subject: Subject {
            id: "0123".to_owned(),
            kind: crate::signal::PIPELINE.to_owned(),
            model: None,
            title: "CI of main failed".to_owned(),
            started_at: "2026-11-22T22:00:00Z".to_owned(),
        },
        urgency,
        context,
    }
}

/// Code is held to the rules that it holds a model to.
async fn analysed(text: &str) -> TriageFindings {
    let log = LogToTriage {
        name: "job.log".to_owned(),
        text: text.to_owned(),
        ..LogToTriage::default()
    };
    let case = case(log).await;
    let findings = analyse(&case);
    let text = serde_json::to_string(&findings).expect("JSON");
    let mut checked = validate::parse(validate::Expected::Triage, &text).expect("of the schema");
    let notes = validate::check(&mut checked, &case.context, case.urgency).expect("supported");
    assert_eq!(notes, Vec::<String>::new(), "{text}");
    let Findings::Triage(checked) = checked else {
        panic!("another kind of findings")
    };
    assert_eq!(checked.findings.len(), findings.findings.len());
    checked
}

#[tokio::test]
async fn a_test_is_named_with_its_place_and_what_it_said() {
    let log = "Complete job name: unit tests\n##[group]Run pytest -q\n##[endgroup]\n=== FAILURES ===\nE   AssertionError: assert 0.81 == 0.85\ntests/test_score.py:41: AssertionError\nFAILED tests/test_score.py::test_auc - AssertionError: assert 0.81 == 0.85\n=== 1 failed, 11 passed in 3.21s ===\n##[error]Process completed with exit code 1.\n";
    let findings = analysed(log).await;
    assert_eq!(findings.failure_type, FailureType::Test);
    assert!(
        findings
            .summary
            .contains("Job unit tests failed in step \"pytest -q\""),
        "{}",
        findings.summary
    );
    let first = &findings.findings[0];
    assert_eq!(first.title, "pytest: tests/test_score.py::test_auc");
    assert_eq!(first.fix.file.as_deref(), Some("tests/test_score.py"));
    assert!(first.explanation.contains("assert 0.81 == 0.85"), "{first:?}");
    assert_eq!(
        (findings.findings.len(), first.fix.line),
        (1, Some(41)),
        "one failure, told in three lines"
    );
}

#[tokio::test]
async fn a_leaked_credential_is_the_most_urgent_and_is_not_repeated() {
    let secret = format!("ghp_{}", "A1b2".repeat(9));
    let log = format!(
        "Finding:     TOKEN={secret}\nRuleID:      github-pat\nFile:        deploy/prod.env\nLine:        3\n9:01AM WRN leaks found: 1\n"
    );
    let findings = analysed(&log).await;
    assert_eq!(
        (findings.failure_type, findings.priority),
        (FailureType::Secret, Urgency::P0)
    );
    let first = &findings.findings[0];
    assert_eq!(
        (first.fix.file.as_deref(), first.fix.line),
        (Some("deploy/prod.env"), Some(3))
    );
    assert!(first.fix.action.starts_with("revoke"), "{first:?}");
    assert!(!serde_json::to_string(&findings).expect("JSON").contains(&secret));
}

#[tokio::test]
async fn a_vulnerable_package_is_raised_to_the_version_that_the_scanner_names() {
    let log = "debian (debian 12.4)\nTotal: 1 (HIGH: 0, CRITICAL: 1)\n│ libssl3 │ CVE-2026-1234 │ CRITICAL │ fixed │ 3.0.11-1 │ 3.0.13-1 │ openssl: overflow │\n";
    let findings = analysed(log).await;
    assert_eq!(
        (findings.failure_type, findings.priority),
        (FailureType::ContainerCve, Urgency::P1)
    );
    let of_package = findings
        .findings
        .iter()
        .find(|finding| finding.title == "Trivy: libssl3");
    let of_package = of_package.expect("the package");
    assert!(of_package.fix.action.contains("3.0.13-1"), "{of_package:?}");
    assert_eq!(of_package.false_positive.verdict, Verdict::Unlikely);
}

#[tokio::test]
async fn an_unknown_failure_quotes_the_line_that_stands_out() {
    let findings = analysed("starting\nfrobnicator: the flux failed to align\ncleaning up\n").await;
    assert_eq!(findings.failure_type, FailureType::Unknown);
    let quote = findings.findings[0].evidence[0].quote.as_deref();
    assert_eq!(quote, Some("frobnicator: the flux failed to align"));
    assert!(findings.confidence <= 0.3);
}

#[tokio::test]
async fn a_scanners_report_says_what_the_log_does_not() {
    let sarif = serde_json::json!({
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "Semgrep OSS"}}, "results": [{
            "ruleId": "python.lang.security.audit.exec", "level": "error", "message": {"text": "exec of input"},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": "app/run.py"}, "region": {"startLine": 7}}}],
        }]}],
    });
    let log = LogToTriage {
        name: "job.log".to_owned(),
        text: "exit 1\n".to_owned(),
        reports: vec![
            ("semgrep.sarif".to_owned(), sarif.to_string()),
            ("x.sarif".to_owned(), "{}".to_owned()),
        ],
        ..LogToTriage::default()
    };
    let case = case(log).await;
    let findings = analyse(&case);
    assert_eq!(findings.failure_type, FailureType::SecuritySast);
    let fix = &findings.findings[0].fix;
    assert_eq!((fix.file.as_deref(), fix.line), (Some("app/run.py"), Some(7)));
    assert!(
        case.context.missing[0].reason.contains("x.sarif: not SARIF"),
        "{:?}",
        case.context.missing
    );
}

#[tokio::test]
async fn a_credential_in_the_name_of_a_step_goes_nowhere() {
    let secret = format!("ghp_{}", "C3d4".repeat(9));
    let log = LogToTriage {
        text: "FAILED tests/a.py::test_b - assert 1 == 2\n".to_owned(),
        job: Some(format!("unit {secret}")),
        step: Some(format!("pytest --token {secret}")),
        ..LogToTriage::default()
    };
    let case = case(log).await;
    let findings = serde_json::to_string(&analyse(&case)).expect("JSON");
    assert!(
        findings.contains("REDACTED") && !findings.contains(&secret),
        "{findings}"
    );
    let pipeline = case.context.pipeline.as_ref().expect("a pipeline");
    assert!(!pipeline.title().contains(&secret));
    assert!(
        case.context
            .evidence
            .iter()
            .all(|fact| !fact.title.contains(&secret) && !fact.content.contains(&secret))
    );
}

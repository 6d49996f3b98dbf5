//! Lines as the tools write them, with what is read out of them.

use super::RULES;
use crate::report::FailureType::{
    self, ContainerCve, Deployment, Infrastructure, Lint, ModelValidation, Secret, SecuritySast, SecuritySca,
    Test, Training,
};

/// What the strongest rule reads out of a line: kind, tool, subject, file and line.
fn read(line: &str) -> Option<(FailureType, &'static str, String, String)> {
    let (rule, found) = RULES.of(line).max_by_key(|(rule, _)| rule.weight)?;
    let group = |name: &str| found.name(name).map_or("", |found| found.as_str());
    let place = match group("line") {
        "" => group("file").to_owned(),
        line => format!("{}:{line}", group("file")),
    };
    Some((rule.kind, rule.tool, group("subject").to_owned(), place))
}

type Example = (
    &'static str,
    FailureType,
    &'static str,
    &'static str,
    &'static str,
);

fn check(examples: &[Example]) {
    for (line, kind, tool, subject, place) in examples {
        let expected = (*kind, *tool, (*subject).to_owned(), (*place).to_owned());
        assert_eq!(read(line), Some(expected), "{line}");
    }
}

#[test]
fn compilers_are_known_by_their_lines() {
    check(&[
        ("error[E0308]: mismatched types", Lint, "rustc", "E0308", ""),
        (
            "error: could not compile `churn` (lib) due to 2 previous errors",
            Lint,
            "rustc",
            "churn",
            "",
        ),
        (
            "src/main.c:3:5: error: expected ';' before 'return'",
            Lint,
            "compiler",
            "",
            "src/main.c:3",
        ),
        (
            "src/app.ts(3,5): error TS2345: Argument of type 'string'",
            Lint,
            "compiler",
            "TS2345",
            "src/app.ts:3",
        ),
        (
            "src/app.ts:3:5 - error TS2345: Argument of type",
            Lint,
            "tsc",
            "TS2345",
            "src/app.ts:3",
        ),
        (
            "./pkg/a.go:12:3: undefined: foo",
            Lint,
            "go build",
            "",
            "pkg/a.go:12",
        ),
        (
            "[ERROR] /w/src/main/java/A.java:[14,9] cannot find symbol",
            Lint,
            "maven",
            "",
            "/w/src/main/java/A.java:14",
        ),
        (
            "/usr/bin/ld: a.o: undefined reference to `foo'",
            Lint,
            "linker",
            "`foo'",
            "",
        ),
    ]);
}

#[test]
fn type_checkers_and_linters_are_known_by_their_lines() {
    check(&[
        (
            "pandas/core/x.py:12: error: Module has no attribute \"y\"  [attr-defined]",
            Lint,
            "mypy",
            "attr-defined",
            "pandas/core/x.py:12",
        ),
        (
            "Found 279 errors in 9 files (checked 1458 source files)",
            Lint,
            "mypy",
            "",
            "",
        ),
        (
            "  /w/a.py:4:5 - error: \"x\" is not defined (reportUndefinedVariable)",
            Lint,
            "pyright",
            "reportUndefinedVariable",
            "/w/a.py:4",
        ),
        (
            "app/a.py:1:8: F401 [*] `os` imported but unused",
            Lint,
            "linter",
            "F401",
            "app/a.py:1",
        ),
        (
            "  7:13  error  'x' is not defined  no-undef",
            Lint,
            "eslint",
            "no-undef",
            ":7",
        ),
        ("would reformat app/a.py", Lint, "black", "", "app/a.py"),
        ("Diff in /w/src/a.rs:10:", Lint, "rustfmt", "", "/w/src/a.rs:10"),
        (
            "cmd/a.go:9:2: ineffectual assignment to err (ineffassign)",
            Lint,
            "golangci-lint",
            "ineffassign",
            "cmd/a.go:9",
        ),
        (
            "In scripts/x.sh line 4:",
            Lint,
            "shellcheck",
            "",
            "scripts/x.sh:4",
        ),
        (
            "mypy (stubtest)..........................................................Failed",
            Lint,
            "pre-commit",
            "mypy (stubtest)",
            "",
        ),
        (
            "> Task :core:checkstyleMain FAILED",
            Lint,
            "gradle",
            ":core:checkstyleMain",
            "",
        ),
    ]);
}

#[test]
fn test_tools_are_known_by_their_lines() {
    check(&[
        ("test a::b ... FAILED", Test, "cargo test", "a::b", ""),
        (
            "        FAIL [   0.012s] (12/96) churn tests::a",
            Test,
            "nextest",
            "churn tests::a",
            "",
        ),
        (
            "FAILED tests/test_a.py::test_b[x] - AssertionError: assert 1 == 2",
            Test,
            "pytest",
            "tests/test_a.py::test_b[x]",
            "tests/test_a.py",
        ),
        (
            "FAIL: test_x (test.test_tcl.TclTest.test_x)",
            Test,
            "unittest",
            "test_x (test.test_tcl.TclTest.test_x)",
            "",
        ),
        (
            "  \u{25cf} sums \u{203a} adds",
            Test,
            "jest",
            "sums \u{203a} adds",
            "",
        ),
        ("FAIL src/a.test.ts (5.2 s)", Test, "jest", "", "src/a.test.ts"),
        (
            "Tests:       14 failed, 2 skipped, 120 passed, 136 total",
            Test,
            "jest",
            "",
            "",
        ),
        ("    --- FAIL: TestA/b (0.00s)", Test, "go test", "TestA/b", ""),
        (
            "[  FAILED  ] Suite.Case (3 ms)",
            Test,
            "googletest",
            "Suite.Case",
            "",
        ),
        (
            "[ERROR] Tests run: 12, Failures: 1, Errors: 0, Skipped: 0",
            Test,
            "JUnit",
            "",
            "",
        ),
        (
            "not ok 3 - parses the header",
            Test,
            "TAP",
            "parses the header",
            "",
        ),
        (
            "11:00:27     INFO - TEST-UNEXPECTED-FAIL | dom/a.js | got 1",
            Test,
            "Mozilla harness",
            "dom/a.js",
            "",
        ),
    ]);
}

#[test]
fn scanners_are_known_by_their_lines() {
    check(&[
        (
            ">> Issue: [B602:subprocess_popen_with_shell_equals_true] subprocess call",
            SecuritySast,
            "bandit",
            "B602:subprocess_popen_with_shell_equals_true",
            "",
        ),
        (
            "[/w/main.go:12] - G304 (CWE-22): Potential file inclusion (Confidence: HIGH, Severity: MEDIUM)",
            SecuritySast,
            "gosec",
            "G304",
            "/w/main.go:12",
        ),
        (
            "Ran 312 rules on 40 files: 3 findings.",
            SecuritySast,
            "semgrep",
            "",
            "",
        ),
        (
            "Found 2 known vulnerabilities in 1 package",
            SecuritySca,
            "pip-audit",
            "",
            "",
        ),
        (
            "5 vulnerabilities (2 low, 3 high)",
            SecuritySca,
            "npm audit",
            "",
            "",
        ),
        (
            "ID:        RUSTSEC-2020-0071",
            SecuritySca,
            "cargo audit",
            "RUSTSEC-2020-0071",
            "",
        ),
        (
            "error[vulnerability]: Potential segfault in the time crate",
            SecuritySca,
            "cargo deny",
            "vulnerability",
            "",
        ),
        (
            "Vulnerability #1: GO-2023-1571",
            SecuritySca,
            "govulncheck",
            "GO-2023-1571",
            "",
        ),
        (
            "    \u{276f}\u{276f}\u{2771} python.lang.security.audit.exec-detected",
            SecuritySast,
            "semgrep",
            "python.lang.security.audit.exec-detected",
            "",
        ),
        (
            "\u{2502} libssl3 \u{2502} CVE-2026-1234 \u{2502} CRITICAL \u{2502} fixed \u{2502} 3.0.11 \u{2502} 3.0.13 \u{2502}",
            ContainerCve,
            "Trivy",
            "libssl3",
            "",
        ),
        ("9:01AM WRN leaks found: 3", Secret, "gitleaks", "", ""),
        (
            "RuleID:      aws-access-token",
            Secret,
            "gitleaks",
            "aws-access-token",
            "",
        ),
        ("Found verified result", Secret, "TruffleHog", "", ""),
        ("Total: 3 (HIGH: 2, CRITICAL: 1)", ContainerCve, "Trivy", "", ""),
        (
            "openssl  3.0.11-1  3.0.13-1  deb  CVE-2026-1234  Critical",
            ContainerCve,
            "Grype",
            "openssl",
            "",
        ),
    ]);
}

#[test]
fn gates_of_models_and_deployments_are_known_by_their_lines() {
    check(&[
        (
            "AssertionError: accuracy 0.81 is below the threshold 0.85",
            ModelValidation,
            "metric gate",
            "accuracy",
            "",
        ),
        (
            "model gate failed: auc 0.79, expected at least 0.82",
            ModelValidation,
            "metric gate",
            "",
            "",
        ),
        (
            "ValueError: Input X contains NaN.",
            Training,
            "scikit-learn",
            "",
            "",
        ),
        ("epoch 3: loss is nan, stopping", Training, "training", "", ""),
        (
            "Error: UPGRADE FAILED: timed out waiting for the condition",
            Deployment,
            "Helm",
            "",
            "",
        ),
        (
            "error: deployment \"churn\" exceeded its progress deadline",
            Deployment,
            "kubectl",
            "",
            "",
        ),
        (
            "Error from server (Forbidden): pods is forbidden",
            Deployment,
            "kubectl",
            "",
            "",
        ),
    ]);
}

#[test]
fn machines_networks_and_workflows_are_known_by_their_lines() {
    check(&[
        (
            "The runner has received a shutdown signal.",
            Infrastructure,
            "runner",
            "",
            "",
        ),
        ("The operation was canceled.", Infrastructure, "runner", "", ""),
        (
            "The action 'Test' has timed out after 360 minutes.",
            Infrastructure,
            "runner",
            "",
            "",
        ),
        (
            "OSError: [Errno 28] No space left on device",
            Infrastructure,
            "disk",
            "",
            "",
        ),
        (
            "API rate limit exceeded for user ID 1.",
            Infrastructure,
            "rate limit",
            "",
            "",
        ),
        (
            "sh: 1: pnpm: not found",
            Infrastructure,
            "missing tool",
            "pnpm",
            "",
        ),
        (
            "bash: line 3: helm: command not found",
            Infrastructure,
            "missing tool",
            "helm",
            "",
        ),
        (
            "gh: Resource not accessible by integration (HTTP 403)",
            Infrastructure,
            "permissions",
            "",
            "",
        ),
        ("npm error code ERESOLVE", Infrastructure, "npm", "", ""),
        (
            "ERROR: No matching distribution found for torch==9.9",
            Infrastructure,
            "pip",
            "",
            "",
        ),
        (
            "fatal: couldn't find remote ref refs/heads/gone",
            Infrastructure,
            "git",
            "",
            "",
        ),
        (
            "Unable to resolve action `acme/none@v1`, repository not found",
            Infrastructure,
            "workflow",
            "",
            "",
        ),
    ]);
}

#[test]
fn what_goes_well_is_not_detected() {
    for line in [
        "test a::b ... ok",
        "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured",
        "====== 303 passed, 7 skipped in 100.10s ======",
        "Tests:       120 passed, 120 total",
        "tests/test_errors.py::test_fail PASSED",
        "0 vulnerabilities",
        "found 0 vulnerabilities",
        "no leaks found",
        "Total: 0 (HIGH: 0, CRITICAL: 0)",
        "accuracy 0.91, threshold 0.85: passed",
        "   Compiling thiserror v2.0.12",
        "Success: no issues found in 12 source files",
        "--- PASS: TestA (0.00s)",
        "Adding repository directory to the temporary git global config as a safe directory",
    ] {
        assert_eq!(read(line), None, "{line}");
    }
}

#[test]
fn every_rule_reads_the_lines_that_it_fits() {
    for (rule, _) in &RULES.rules {
        regex::Regex::new(rule.pattern).unwrap_or_else(|error| panic!("{}: {error}", rule.pattern));
    }
}

//! Reports of scanners in SARIF 2.1.0.

use serde_json::Value;

use super::Detection;
use crate::report::FailureType;
use crate::text::{one_line, sanitise};

/// Results that are read of a report.
const MAX_RESULTS: usize = 200;
/// Weight of a scanner's result.
const WEIGHT: u8 = 8;
/// Lock files: what is found in them is a dependency.
const LOCK_FILES: [&str; 12] = [
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "cargo.lock",
    "poetry.lock",
    "uv.lock",
    "pipfile.lock",
    "requirements.txt",
    "go.mod",
    "go.sum",
    "pom.xml",
    "gemfile.lock",
];

/// The results of a report that nobody has suppressed, worst first.
///
/// # Errors
/// What is wrong with the report.
pub(crate) fn read(text: &str) -> Result<Vec<Detection>, String> {
    let report: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let runs = report["runs"]
        .as_array()
        .filter(|_| {
            report["version"]
                .as_str()
                .is_some_and(|version| version.starts_with("2."))
        })
        .ok_or("not SARIF 2: expected `version` 2.1.0 and `runs`")?;
    let mut detections: Vec<Detection> = runs
        .iter()
        .flat_map(|run| {
            let results = run["results"].as_array().into_iter().flatten();
            results.filter_map(|result| detection(run, result))
        })
        .take(MAX_RESULTS)
        .collect();
    detections.sort_by_key(|detection| rank(detection.severity.as_deref()));
    Ok(detections)
}

fn rank(severity: Option<&str>) -> u8 {
    match severity {
        Some("critical") => 0,
        Some("high") => 1,
        Some("medium") => 2,
        _ => 3,
    }
}

fn detection(run: &Value, result: &Value) -> Option<Detection> {
    let is_suppressed = result["suppressions"]
        .as_array()
        .is_some_and(|suppressions| !suppressions.is_empty());
    let level = result["level"].as_str().unwrap_or("warning");
    if is_suppressed || matches!(level, "none" | "note") || result["baselineState"] == "absent" {
        return None;
    }
    let text = |value: &Value, max: usize| {
        let text = one_line(&sanitise(value.as_str()?), max);
        (!text.is_empty()).then_some(text)
    };
    let tool = text(&run["tool"]["driver"]["name"], 60).unwrap_or_else(|| "scanner".to_owned());
    let rule = rule(run, result);
    let id = text(&result["ruleId"], 120).or_else(|| text(&rule["id"], 120));
    let place = &result["locations"][0]["physicalLocation"];
    let file = text(&place["artifactLocation"]["uri"], 300);
    let line = place["region"]["startLine"]
        .as_u64()
        .and_then(|line| u32::try_from(line).ok());
    let message =
        text(&result["message"]["text"], 300).or_else(|| text(&rule["shortDescription"]["text"], 300));
    let score = rule["properties"]["security-severity"]
        .as_str()
        .and_then(|score| score.parse::<f64>().ok());
    let severity = match (score, level) {
        (Some(9.0..), _) => "critical",
        (Some(7.0..), _) | (None, "error") => "high",
        (Some(4.0..) | None, _) => "medium",
        _ => "low",
    };
    let at = match (&file, line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.clone(),
        (None, _) => "no file".to_owned(),
    };
    let quote = format!(
        "{tool}: {severity} {} at {at}: {}",
        id.as_deref().unwrap_or("a rule"),
        message.as_deref().unwrap_or("no message")
    );
    Some(Detection {
        kind: kind(&tool, id.as_deref(), file.as_deref()),
        tool,
        weight: WEIGHT,
        subject: id,
        file,
        line,
        message,
        severity: Some(severity.to_owned()),
        fixed_in: None,
        number: 0,
        quote,
        in_failed_step: true,
        fact: None,
    })
}

/// The rule of a result, by its index or its id.
fn rule<'a>(run: &'a Value, result: &Value) -> &'a Value {
    let rules = &run["tool"]["driver"]["rules"];
    if let Some(index) = result["ruleIndex"].as_u64() {
        return &rules[index as usize];
    }
    let mut all = rules.as_array().into_iter().flatten();
    all.find(|rule| rule["id"] == result["ruleId"])
        .unwrap_or(&Value::Null)
}

/// By what scanners are for.
fn kind(tool: &str, id: Option<&str>, file: Option<&str>) -> FailureType {
    let tool = tool.to_ascii_lowercase();
    let is = |names: &[&str]| names.iter().any(|name| tool.contains(name));
    let name = file.and_then(|file| file.rsplit('/').next()).unwrap_or_default();
    let is_vulnerability = id.is_some_and(|id| {
        ["CVE-", "GHSA-", "RUSTSEC-", "PYSEC-", "GO-", "SNYK-"]
            .iter()
            .any(|prefix| id.starts_with(prefix))
    });
    if is(&["gitleaks", "trufflehog", "detect-secrets", "gitguardian"]) {
        FailureType::Secret
    } else if is(&[
        "eslint",
        "ruff",
        "clippy",
        "shellcheck",
        "hadolint",
        "golangci",
        "pylint",
    ]) {
        FailureType::Lint
    } else if is(&[
        "pip-audit",
        "osv",
        "dependency-check",
        "cargo-audit",
        "npm-audit",
        "snyk open source",
    ]) {
        FailureType::SecuritySca
    } else if is_vulnerability {
        if LOCK_FILES.contains(&name.to_ascii_lowercase().as_str()) {
            FailureType::SecuritySca
        } else {
            FailureType::ContainerCve
        }
    } else {
        FailureType::SecuritySast
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(tool: &str, results: &Value) -> String {
        let rules = json!([
            {"id": "py/sql-injection", "properties": {"security-severity": "8.8"}},
            {"id": "CVE-2026-1234", "properties": {"security-severity": "9.8"}},
        ]);
        json!({
            "version": "2.1.0",
            "runs": [{"tool": {"driver": {"name": tool, "rules": rules}}, "results": results}],
        })
        .to_string()
    }

    fn result(rule: &str, file: &str, line: u32) -> Value {
        json!({
            "ruleId": rule, "level": "error", "message": {"text": "a message"},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": line}}}],
        })
    }

    #[test]
    fn results_have_kind_severity_and_place() {
        let mut suppressed = result("py/sql-injection", "app/old.py", 1);
        suppressed["suppressions"] = json!([{"kind": "inSource"}]);
        let text = report(
            "CodeQL",
            &json!([result("py/sql-injection", "app/db.py", 12), suppressed]),
        );
        let found = read(&text).expect("SARIF");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (
                found[0].kind,
                found[0].severity.as_deref(),
                found[0].file.as_deref(),
                found[0].line
            ),
            (
                FailureType::SecuritySast,
                Some("high"),
                Some("app/db.py"),
                Some(12)
            )
        );
        assert_eq!(
            found[0].quote,
            "CodeQL: high py/sql-injection at app/db.py:12: a message"
        );
        for (tool, rule, file, expected) in [
            (
                "Trivy",
                "CVE-2026-1234",
                "library/debian",
                FailureType::ContainerCve,
            ),
            (
                "Trivy",
                "CVE-2026-1234",
                "web/package-lock.json",
                FailureType::SecuritySca,
            ),
            ("gitleaks", "aws-access-token", "a.env", FailureType::Secret),
            ("ESLint", "no-undef", "a.js", FailureType::Lint),
            ("Semgrep OSS", "python.flask.x", "a.py", FailureType::SecuritySast),
        ] {
            let found = read(&report(tool, &json!([result(rule, file, 1)]))).expect("SARIF");
            assert_eq!(found[0].kind, expected, "{tool}");
        }
    }

    #[test]
    fn what_is_no_report_is_told() {
        assert!(read("{").expect_err("cut").contains("not JSON"));
        assert!(
            read("{\"results\": []}")
                .expect_err("another")
                .contains("expected `version` 2.1.0")
        );
    }
}

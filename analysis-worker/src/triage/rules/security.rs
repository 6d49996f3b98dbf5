//! Scanners: of code, dependencies, images, secrets.

use super::Rule;
use crate::report::FailureType::{ContainerCve, Secret, SecuritySast, SecuritySca};

pub(super) const RULES: &[Rule] = &[
    // Code.
    Rule::new(SecuritySast, "semgrep", 7, r"^\s*(?:\x{276f}|\x{2771})+ +(?P<subject>[\w.-]+\.[\w.-]+)$").before(),
    Rule::new(SecuritySast, "semgrep", 9, r"^\s*\x{2022} Findings: (?P<message>[1-9]\d* \([1-9]\d* blocking\))"),
    Rule::new(SecuritySast, "semgrep", 9, r"^Ran \d+ rules on \d+ files?: (?P<message>[1-9]\d* findings)"),
    Rule::new(SecuritySast, "bandit", 8, r"^>> Issue: \[(?P<subject>B\d{3}:\w+)\] (?P<message>.+)").after(),
    Rule::new(SecuritySast, "gosec", 8, r"^\[(?P<file>\S+\.go):(?P<line>\d+)\] - (?P<subject>G\d{3}) \(CWE-\d+\): (?P<message>.+?) \(Confidence: \w+, Severity: (?P<severity>\w+)\)"),
    Rule::new(SecuritySast, "CodeQL", 8, r"(?i)code scanning (?:results|found|detected)\b.*\b(?:alerts?|fail)|\bnew alerts? (?:in code changed|including)\b"),
    Rule::new(SecuritySast, "brakeman", 8, r"^Security Warnings: (?P<message>[1-9]\d*)|^Confidence: (?P<severity>High|Medium|Weak)$"),
    Rule::new(SecuritySast, "SAST", 6, r"\b(?P<subject>CWE-\d+)\b.*(?i:severity|warning|error|issue)"),
    // Dependencies.
    Rule::new(SecuritySca, "pip-audit", 9, r"^Found (?P<message>[1-9]\d* known vulnerabilit(?:y|ies) in [1-9]\d* packages?)"),
    Rule::new(SecuritySca, "pip-audit", 8, r"^(?P<subject>[A-Za-z0-9][\w.-]*\s+\S+\s+(?:PYSEC-\d{4}-\d+|GHSA-\w{4}-\w{4}-\w{4}|CVE-\d{4}-\d+))(?:\s+(?P<fixed>[\d.]+[\w.,]*))?$"),
    Rule::new(SecuritySca, "npm audit", 9, r"^(?P<message>[1-9]\d* (?:(?P<severity>low|moderate|high|critical) severity )?vulnerabilit(?:y|ies)(?: \(.+\))?)$"),
    Rule::new(SecuritySca, "npm audit", 7, r"^# npm audit report$"),
    Rule::new(SecuritySca, "npm audit", 6, r"^(?P<subject>@?[a-z0-9][\w./@-]*)\s{2,}(?:[<>=*]|\d).*$|^Severity: (?P<severity>low|moderate|high|critical)$"),
    Rule::new(SecuritySca, "cargo audit", 8, r"^ID:\s+(?P<subject>RUSTSEC-\d{4}-\d{4})"),
    Rule::new(SecuritySca, "cargo audit", 9, r"^error: (?P<message>[1-9]\d* vulnerabilit(?:y|ies) found)"),
    Rule::new(SecuritySca, "cargo deny", 8, r"^error\[(?P<subject>vulnerability|unmaintained|unsound|yanked|rejected|banned|source-not-allowed|license\S*)\]: (?P<message>.+)").after(),
    Rule::new(SecuritySca, "govulncheck", 8, r"^Vulnerability #\d+: (?P<subject>GO-\d{4}-\d+)"),
    Rule::new(SecuritySca, "govulncheck", 9, r"^Your code is affected by (?P<message>[1-9]\d* vulnerabilit(?:y|ies).*)"),
    Rule::new(SecuritySca, "osv-scanner", 8, r"^\|\s*https://osv\.dev/(?P<subject>[\w-]+)\s*\|\s*(?P<severity>[\d.]*)"),
    Rule::new(SecuritySca, "Snyk", 8, r"(?:\x{2717}|x) (?P<severity>Low|Medium|High|Critical) severity vulnerability found in (?P<subject>\S+)"),
    Rule::new(SecuritySca, "dependency review", 9, r"Dependency review detected (?P<message>(?:vulnerable packages|incompatible licenses|denied packages).*)"),
    Rule::new(SecuritySca, "OWASP Dependency-Check", 9, r"One or more dependencies were identified with vulnerabilities"),
    Rule::new(SecuritySca, "Trivy", 7, r"^(?P<file>\S*(?:package-lock\.json|yarn\.lock|pnpm-lock\.yaml|Cargo\.lock|requirements\S*\.txt|poetry\.lock|uv\.lock|go\.mod|pom\.xml|Gemfile\.lock)) \((?P<subject>\w+)\)$"),
    // Images.
    Rule::new(ContainerCve, "Trivy", 9, r"^Total: (?P<message>[1-9]\d* \((?:UNKNOWN: \d+, )?(?:LOW: \d+, )?(?:MEDIUM: \d+, )?.*(?:HIGH|CRITICAL|MEDIUM|LOW): \d+\))"),
    Rule::new(ContainerCve, "Trivy", 7, r"^(?P<subject>\S+ \((?:debian|ubuntu|alpine|redhat|centos|rocky|alma|amazon|oracle|photon|wolfi|chainguard|suse\S*|opensuse\S*|azurelinux|mariner|cbl-mariner) ?[\w.]*\))$"),
    Rule::new(ContainerCve, "Trivy", 7, r"^\x{2502} (?P<subject>\S+)(?: \([^)]*\))?\s+\x{2502} (?P<message>(?:CVE-\d{4}-\d+|GHSA-\S+|RUSTSEC-\S+|DLA-\S+))\s+\x{2502} (?P<severity>LOW|MEDIUM|HIGH|CRITICAL)\s+\x{2502}\s*\w*\s*\x{2502} \S*\s*(?:\x{2502}\s*(?P<fixed>[\w.:~+-]*))?"),
    Rule::new(ContainerCve, "Grype", 9, r"discovered vulnerabilities at or above the severity threshold"),
    Rule::new(ContainerCve, "Grype", 7, r"^(?P<subject>[\w.+/-]+)\s+\S+\s+(?:(?P<fixed>[\d][\w.:~+-]*)\s+|\(won't fix\)\s+)?(?:deb|apk|rpm|python|npm|go-module|java-archive|gem|rust-crate|binary)\s+(?P<message>CVE-\d{4}-\d+|GHSA-\S+)\s+(?P<severity>Negligible|Low|Medium|High|Critical)"),
    Rule::new(ContainerCve, "Docker Scout", 8, r"^\s*(?:\x{2717}|x)\s+(?P<severity>CRITICAL|HIGH|MEDIUM|LOW)\s+(?P<subject>CVE-\d{4}-\d+)"),
    // Secrets.
    Rule::new(Secret, "gitleaks", 9, r"\bleaks found: (?P<message>[1-9]\d*)"),
    Rule::new(Secret, "gitleaks", 8, r"^RuleID:\s+(?P<subject>\S+)").after(),
    Rule::new(Secret, "TruffleHog", 9, r"Found (?P<message>(?:un)?verified (?:result|credentials?|secret).*)").after(),
    Rule::new(Secret, "TruffleHog", 8, r"^Detector Type: (?P<subject>\S+)").after(),
    Rule::new(Secret, "detect-secrets", 8, r"^Secret Type: (?P<subject>.+)").after(),
    Rule::new(Secret, "detect-secrets", 9, r"^ERROR: Potential secrets about to be committed"),
    Rule::new(Secret, "GitGuardian", 9, r"^>?\s*(?:Secret|Policy break)\(?s?\)?.*\b(?P<message>[1-9]\d* (?:occurrence|incident)\S*.*)|ggshield.*\b[1-9]\d* incidents?"),
    Rule::new(Secret, "push protection", 9, r"\bGH013\b.*rule violations|Push cannot contain secrets|GITHUB PUSH PROTECTION"),
];

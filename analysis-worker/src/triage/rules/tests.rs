//! Test tools.

use super::Rule;
use crate::report::FailureType::Test;

const fn rule(tool: &'static str, weight: u8, pattern: &'static str) -> Rule {
    Rule::new(Test, tool, weight, pattern)
}

pub(super) const RULES: &[Rule] = &[
    // Rust.
    rule("cargo test", 8, r"^test (?P<subject>\S+)(?: - should panic)? \.\.\. FAILED$"),
    rule("cargo test", 9, r"^test result: FAILED\. (?P<message>.+)"),
    rule("cargo test", 7, r"^thread '(?P<subject>[^']+)'(?: \(\d+\))? panicked at (?P<file>[\w./\\-]+\.rs):(?P<line>\d+)"),
    rule("nextest", 8, r"^\s*(?:FAIL|TIMEOUT|SIG\w+|ABORT|TRY \d+ FAIL) \[\s*[\d.]+s\] (?:\(\s*\d+/\d+\) )?(?P<subject>\S+ \S+.*)$"),
    rule("nextest", 9, r"^\s*Summary \[.*\b(?P<message>[1-9]\d* (?:failed|timed out).*)|error: test run failed$"),
    rule("cargo test", 8, r"^error: test failed, to rerun pass|process didn't exit successfully: .* \(signal: \d+"),
    // Python.
    rule("pytest", 9, r"^(?:FAILED|ERROR)(?: CONSISTENTLY:)? (?:\[[\d.]+s\] )?(?P<subject>(?P<file>[\w./\\-]+\.(?:py|rst|txt|md|ipynb))(?:::\S.*?)?)(?: - (?P<message>.+))?$"),
    rule("pytest", 9, r"^=+ (?P<message>.*\b[1-9]\d* (?:failed|errors?)\b.* in [\d.]+s.*) =+$"),
    rule("pytest", 8, r"^(?P<message>[1-9]\d* failed\b.* in [\d.]+s.*)"),
    rule("pytest", 7, r"^_+ (?:ERROR collecting (?P<file>\S+)|ERROR at (?:setup|teardown) of (?P<subject>\S+)) _+$"),
    rule("pytest", 6, r"^E {2,}(?P<message>(?:AssertionError|assert )\b.*)").after(),
    rule("pytest", 5, r"^(?P<file>[\w./\\-]*test[\w./\\-]*\.py):(?P<line>\d+): (?P<message>\w*(?:Error|Exception|Failure)\w*)$"),
    rule("unittest", 8, r"^(?:FAIL|ERROR): (?P<subject>test\w+ \([\w.]+\)(?: \[.*\])?)").after(),
    rule("unittest", 9, r"^FAILED \((?P<message>(?:failures|errors)=\d+.*)\)"),
    rule("doctest", 7, r#"^File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<subject>\S+)$|DocTestFailure"#),
    rule("Python", 7, r#"^\s*File "(?P<file>[^"]*test[^"]*\.py)", line (?P<line>\d+) in (?P<subject>test_?\w+)$"#),
    rule("Python", 6, r"^.*Fatal Python error: (?P<message>(?:Segmentation fault|Aborted|Bus error|Illegal instruction|Floating.point).*)$").after(),
    // JavaScript.
    rule("jest", 8, r"^\s*FAIL\s+(?P<file>[\w./@\[\]() -]+\.(?:[cm]?[jt]sx?|vue|svelte))(?:\s|$)"),
    rule("jest", 9, r"^\s*Tests:\s+(?P<message>[1-9]\d* failed.*)"),
    rule("vitest", 9, r"^\s*Tests\s+(?P<message>[1-9]\d* failed.*)"),
    rule("jest", 8, r"^\s*Test Suites:\s+(?P<message>[1-9]\d* failed.*)"),
    rule("jest", 8, r"^\s*Snapshots:\s+(?P<message>[1-9]\d* failed.*)"),
    rule("jest", 6, r"^\s*\x{25cf} (?P<subject>.+ \x{203a} .+)$").after(),
    rule("mocha", 8, r"^\s+(?P<message>[1-9]\d* failing)$"),
    rule("playwright", 7, r"^\s+(?:\d+\) )?\[\w+\] \x{203a} (?P<file>\S+?\.[cm]?[jt]sx?):(?P<line>\d+):\d+ \x{203a} (?P<subject>.+?)(?: =*| \x{2500}*)$"),
    rule("TAP", 7, r"^\s*not ok \d+ -? ?(?P<subject>.+?)(?: # time.*)?$"),
    // Go.
    rule("go test", 8, r"^\s*--- FAIL: (?P<subject>\S+) \([\d.]+s\)").after(),
    rule("go test", 8, r"^FAIL\t(?P<subject>\S+)\t[\d.]+s"),
    rule("go test", 7, r"^panic: test timed out after (?P<message>\S+)"),
    rule("ginkgo", 8, r"^\s*(?:\x{2022} )?\[FAIL(?:ED)?\] (?P<subject>[^\d\[].+?)$"),
    rule("ginkgo", 9, r"^FAIL! -- (?P<message>.+)"),
    rule("go test", 8, r"^WARNING: DATA RACE"),
    // Java and C++.
    rule("JUnit", 9, r"^\[ERROR\] (?:Tests run: \d+, )?(?P<message>(?:Failures: [1-9]\d*|Failures: \d+, Errors: [1-9]\d*).*)|^\[ERROR\] There (?:are|were) test failures"),
    rule("JUnit", 9, r"^Tests run: \d+, (?P<message>(?:Failures: [1-9]|Failures: \d+, Errors: [1-9]).*)"),
    rule("JUnit", 8, r"^\[ERROR\] +(?P<subject>[\w.$]+(?:Test|IT|Tests|Spec)[\w.$]*(?:\.|:|->)\S+)(?::(?P<line>\d+))? (?P<message>.+)"),
    rule("Gradle", 8, r"^(?P<subject>[\w.$]+(?:Test|IT|Tests|Spec)\w* > .+) FAILED$"),
    rule("Gradle", 9, r"^> Task (?P<subject>:\S*[tT]est\S*) FAILED|There were failing tests"),
    rule("googletest", 8, r"^\[  FAILED  \] (?P<subject>[\w/]+\.[\w/]+)"),
    rule("googletest", 7, r"^(?P<file>\S+\.(?:cc|cpp|cxx|h)):(?P<line>\d+): Failure$"),
    rule("ctest", 9, r"^(?P<message>\d+% tests passed, [1-9]\d* tests? failed out of \d+)"),
    rule("ctest", 8, r"^\s*\d+ - (?P<subject>\S+) \((?:Failed|Timeout|SEGFAULT|Not Run|Subprocess aborted)\)"),
    rule("Catch2", 8, r"^test cases: .*\b(?P<message>[1-9]\d* failed)"),
    rule("Bazel", 8, r"^(?P<subject>//\S+)\s+(?:\([^)]*\) )?(?:FAILED|TIMEOUT|FLAKY)\b.* in "),
    rule("sanitizer", 7, r"(?:==\d+==)?ERROR: (?P<subject>\w+Sanitizer): (?P<message>.+)"),
    rule("Bazel", 9, r"^Executed \d+ out of \d+ tests?: (?P<message>.*\b[1-9]\d* fails?\b.*)"),
    rule("XCTest", 9, r"^\*\* TEST FAILED \*\*"),
    // Others.
    rule("PHPUnit", 9, r"^(?P<message>Tests: \d+, Assertions: \d+, .*(?:Failures|Errors): [1-9]\d*.*)"),
    rule("RSpec", 9, r"^(?P<message>\d+ examples?, [1-9]\d* failures?.*)"),
    rule("RSpec", 8, r"^rspec (?:'|\./)?(?P<file>[\w./-]+_spec\.rb):(?P<line>\d+)"),
    rule("dotnet test", 9, r"^(?:Failed!\s+- |Test Run Failed)(?P<message>.*)"),
    rule("Mozilla harness", 9, r"\bTEST-UNEXPECTED-(?:FAIL|PASS|TIMEOUT|ERROR|CRASH|NOTRUN)\b \| (?P<subject>[^|]+?) \| (?P<message>.+)"),
    rule("Mozilla harness", 8, r"\bPROCESS-CRASH\b \| (?P<message>[^|]+?)(?: \| (?P<subject>.+))?$"),
    rule("test tool", 7, r"(?i)^\W*\d+ (?:of|out of|/) ?\d+ tests? (?:failed|failing)|^(?P<message>[1-9]\d* tests? failed\b.*)|\bFailed tests?: +(?P<subject>\S+)"),
    rule("test tool", 4, r"(?:^|[\s/])(?P<subject>(?:\w[\w/.]*/)?test_\w+|Test[A-Z]\w+|\w+_test)\b[^|]{0,60}?(?:\bfailed\b|\bFAILED\b|[Rr]eceived signal)"),
];

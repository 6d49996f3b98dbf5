//! Reports of test tools in the XML that `JUnit` began and most tools write.

use std::sync::LazyLock;

use regex::Regex;

use super::Detection;
use crate::report::FailureType;
use crate::text::{one_line, sanitise};

/// Failed tests that are read of a report.
const MAX_FAILED: usize = 200;
/// Weight of a failed test.
const WEIGHT: u8 = 9;

/// The tests that failed, in the order of the report.
///
/// # Errors
/// What is wrong with the report.
pub(crate) fn read(text: &str) -> Result<Vec<Detection>, String> {
    static CASES: LazyLock<Regex> = LazyLock::new(|| element("testcase"));
    if !text.contains("<testsuite") {
        return Err("not JUnit: expected an element `testsuite` or `testsuites`".to_owned());
    }
    let cases = CASES.captures_iter(text);
    Ok(cases
        .filter_map(|case| detection(&case["attributes"], &case["content"]))
        .take(MAX_FAILED)
        .collect())
}

/// An element with what is in it. An attribute may have `>` in its value, and an element without content ends itself.
fn element(name: &str) -> Regex {
    let attributes = r#"(?P<attributes>(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*"#;
    let pattern = format!("(?s)<{name}\\b{attributes}(?P<content>/>|>.*?</{name}>)");
    Regex::new(&pattern).expect("a constant pattern")
}

fn detection(case: &str, content: &str) -> Option<Detection> {
    static FAILURES: LazyLock<[Regex; 2]> = LazyLock::new(|| [element("failure"), element("error")]);
    let failure = FAILURES.iter().find_map(|failure| failure.captures(content))?;
    let said = attribute(&failure["attributes"], "message")
        .filter(|message| !message.trim().is_empty())
        .unwrap_or_else(|| unescaped(inner(&failure["content"])));
    let clean = |text: &str, max: usize| {
        let text = one_line(&sanitise(text), max);
        (!text.is_empty()).then_some(text)
    };
    let name = attribute(case, "name").unwrap_or_default();
    let class = attribute(case, "classname").filter(|class| !class.is_empty());
    let test = class.map_or_else(|| name.clone(), |class| format!("{class}::{name}"));
    let (subject, message) = (clean(&test, 200), clean(&said, 200));
    let file = attribute(case, "file").and_then(|file| clean(&file, 300));
    let line = attribute(case, "line").and_then(|line| line.parse().ok());
    let at = match (&file, line) {
        (Some(file), Some(line)) => format!(" at {file}:{line}"),
        (Some(file), None) => format!(" in {file}"),
        (None, _) => String::new(),
    };
    let quote = format!(
        "test report: {} failed{at}: {}",
        subject.as_deref().unwrap_or("a test"),
        message.as_deref().unwrap_or("no message")
    );
    Some(Detection {
        kind: FailureType::Test,
        tool: "test report".to_owned(),
        weight: WEIGHT,
        subject,
        file,
        line,
        message,
        severity: None,
        fixed_in: None,
        number: 0,
        quote: one_line(&quote, 240),
        in_failed_step: true,
        fact: None,
    })
}

/// What stands between the tags, of the rest of an element after its attributes.
fn inner(rest: &str) -> &str {
    let content = rest.strip_prefix('>').unwrap_or_default();
    content.rsplit_once("</").map_or("", |(content, _)| content)
}

/// The value of an attribute.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    static ATTRIBUTES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')"#).expect("a constant pattern")
    });
    let mut all = ATTRIBUTES.captures_iter(attributes);
    let found = all.find(|found| &found[1] == name)?;
    let value = found.get(2).or(found.get(3))?;
    Some(unescaped(value.as_str()))
}

/// Without the entities that XML has by itself; others stay as they are.
fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#10;", "\n")
        .replace("&#xA;", "\n")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_read_and_others_are_not() {
        let text = r#"<?xml version="1.0"?><testsuites><testsuite name="pytest" failures="1" errors="1">
<testcase classname="tests.test_a" name="test_ok" time="0.1"/>
<testcase classname="tests.test_a" name="test_gt" file="tests/test_a.py" line="12"><failure message="assert 1 &gt; 2">def test_gt():
E assert 1 &gt; 2</failure></testcase>
<testcase classname="tests.test_a" name="a &gt; b > c"><error>boom &amp; bust</error></testcase>
<testcase classname="tests.test_a" name="test_skipped"><skipped message="no GPU"/></testcase>
<testcase name="alone"><failure message="x"/></testcase>
</testsuite></testsuites>"#;
        let found = read(text).expect("JUnit");
        let said: Vec<_> = found
            .iter()
            .map(|found| {
                (
                    found.subject.as_deref().unwrap_or(""),
                    found.message.as_deref().unwrap_or(""),
                    found.line,
                )
            })
            .collect();
        assert_eq!(
            said,
            [
                ("tests.test_a::test_gt", "assert 1 > 2", Some(12)),
                ("tests.test_a::a > b > c", "boom & bust", None),
                ("alone", "x", None),
            ]
        );
        assert_eq!(
            found[0].quote,
            "test report: tests.test_a::test_gt failed at tests/test_a.py:12: assert 1 > 2"
        );
    }

    #[test]
    fn what_is_no_report_is_told() {
        assert!(
            read("<html></html>")
                .expect_err("another")
                .contains("expected an element")
        );
        assert_eq!(read("<testsuite></testsuite>").expect("empty"), []);
    }
}

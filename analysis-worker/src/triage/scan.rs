//! Goes through the log of a job, line by line.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::Detection;
use super::rules::{Place, RULES, Rule};
use crate::report::FailureType;
use crate::text::{one_line, prefix};

/// Bytes of a line that are looked at: what it says of itself is at its beginning.
const SEARCHED: usize = 2_048;
/// Characters of a quote, message or subject that are kept.
const MAX_QUOTE: usize = 240;
/// Detections of one rule; more are counted.
const MAX_OF_A_RULE: usize = 12;
/// Detections of a job.
const MAX_DETECTIONS: usize = 240;
/// How many lines after a finding its file may stand.
const AFTER: usize = 40;
/// How many lines after a test what went wrong in it may stand.
const REASON: usize = 25;
/// How many lines before it.
const BEFORE: usize = 200;
/// Commands of steps that are kept.
const MAX_STEPS: usize = 1_000;
/// Step of what is said about the job as a whole.
const EVERY_STEP: u32 = u32::MAX;

/// Takes the lines of a log one by one.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    detections: Vec<Detection>,
    steps_of: Vec<u32>,
    of_a_rule: HashMap<&'static str, usize>,
    /// What the steps run, the first line of each; the first is what comes before any step.
    steps: Vec<String>,
    failed_steps: BTreeSet<u32>,
    job: Option<String>,
    /// Between the `##[group]Run` of a step and its output: the script and its environment.
    in_script: bool,
    /// What Trivy looks at: the lines after a target are about it.
    target: Option<FailureType>,
    /// Where the last file was named.
    last_place: Option<(usize, String, Option<u32>)>,
    /// Detections that wait for the line that names their file.
    waiting: Vec<usize>,
    /// Tests that wait for the line that says what went wrong in them.
    unsaid: Vec<usize>,
}

/// What a log shows.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// In the order of the log.
    pub(crate) detections: Vec<Detection>,
    /// Name of the job, if the log tells it.
    pub(crate) job: Option<String>,
    /// What the step runs that failed first.
    pub(crate) step: Option<String>,
}

impl Scan {
    /// Takes the next line, without its time.
    pub(crate) fn line(&mut self, number: usize, body: &str) {
        let body = prefix(body, SEARCHED).trim_end();
        let body = &without_colours(body);
        if let Some(command) = body.strip_prefix("##[group]Run ") {
            if self.steps.len() < MAX_STEPS {
                self.steps.push(one_line(command, 200));
            }
            self.in_script = true;
            self.detect_all(number, command, Level::Plain);
            return;
        }
        if body.starts_with("##[endgroup]") {
            self.in_script = false;
            return;
        }
        if let Some(name) = body.strip_prefix("Complete job name: ") {
            self.job = Some(one_line(name, 200));
            return;
        }
        let (body, level) = without_marker(body);
        if level == Level::Error {
            self.failed_steps.insert(self.step());
        }
        self.place(number, body);
        self.reason(number, body);
        self.detect_all(number, body, level);
    }

    fn detect_all(&mut self, number: usize, body: &str, level: Level) {
        let fitting: Vec<_> = RULES.of(body).collect();
        for (index, (rule, found)) in fitting.iter().enumerate() {
            // Of a script only its conditions tell something: what they are filled with.
            let tells = |whole: regex::Match<'_>| whole.as_str().contains("\"failure\"");
            if self.in_script && !found.get(0).is_some_and(tells) {
                continue;
            }
            // A line is one detection of a kind: that of the strongest rule, the first of equals.
            let is_outdone = fitting.iter().enumerate().any(|(other, (stronger, _))| {
                stronger.kind == rule.kind
                    && (stronger.weight > rule.weight || stronger.weight == rule.weight && other < index)
            });
            if !is_outdone {
                self.detect(rule, found, number, body, level);
            }
        }
    }

    /// Takes what the runner says of the job elsewhere than in its log.
    pub(crate) fn annotation(&mut self, text: &str) {
        let text = prefix(text, SEARCHED).trim_end();
        self.detect_all(0, text, Level::Error);
    }

    fn step(&self) -> u32 {
        self.steps.len() as u32
    }

    fn detect(&mut self, rule: &'static Rule, found: &Captures<'_>, number: usize, body: &str, level: Level) {
        let kind = self.kind(rule, body);
        let count = self.of_a_rule.entry(rule.name()).or_default();
        *count += 1;
        if *count > MAX_OF_A_RULE || self.detections.len() >= MAX_DETECTIONS {
            return;
        }
        let group = |name: &str| {
            let text = one_line(found.name(name)?.as_str(), MAX_QUOTE);
            (!text.is_empty()).then_some(text)
        };
        let mut detection = Detection {
            kind,
            tool: rule.tool.to_owned(),
            // A warning is not why a step failed.
            weight: if level == Level::Warning { 1 } else { rule.weight },
            subject: group("subject"),
            file: group("file").map(|file| relative(&file)),
            line: group("line").and_then(|line| line.parse().ok()),
            message: group("message"),
            severity: group("severity").map(|severity| severity.to_lowercase()),
            fixed_in: group("fixed"),
            number,
            quote: prefix(body.trim(), MAX_QUOTE).trim_end().to_owned(),
            in_failed_step: false,
            fact: None,
        };
        if detection.file.is_none() && rule.place == Place::Before {
            let near = self.last_place.as_ref().filter(|(at, ..)| number - at <= BEFORE);
            if let Some((_, file, line)) = near {
                detection.file = Some(file.clone());
                detection.line = detection.line.or(*line);
            }
        }
        let same = |known: &Detection| {
            (
                &known.tool,
                &known.subject,
                &known.file,
                &known.line,
                &known.message,
            ) == (
                &detection.tool,
                &detection.subject,
                &detection.file,
                &detection.line,
                &detection.message,
            )
        };
        let is_named = detection.subject.is_some() || detection.file.is_some();
        if is_named && self.detections.iter().any(same) {
            return;
        }
        if detection.file.is_none() && rule.place == Place::After {
            self.waiting.push(self.detections.len());
        }
        if detection.kind == FailureType::Test && is_named && detection.message.is_none() {
            self.unsaid.push(self.detections.len());
        }
        self.detections.push(detection);
        self.steps_of
            .push(if number == 0 { EVERY_STEP } else { self.step() });
    }

    /// Trivy writes of lock files and of images alike; the target before the lines tells which.
    fn kind(&mut self, rule: &Rule, body: &str) -> FailureType {
        if rule.tool != "Trivy" {
            return rule.kind;
        }
        if body.ends_with(')') && !body.starts_with("Total:") {
            self.target = Some(rule.kind);
        }
        self.target.unwrap_or(rule.kind)
    }

    /// Notes the file that a line names, and gives it to those that wait for one.
    fn place(&mut self, number: usize, body: &str) {
        let Some((file, line)) = place(body) else {
            return;
        };
        let last = match (file, line) {
            (Some(file), line) => Some((number, relative(file), line)),
            // The line of a file that was named just before.
            (None, line) => self
                .last_place
                .take()
                .map(|(_, file, earlier)| (number, file, line.or(earlier))),
        };
        let Some((_, file, line)) = &last else { return };
        let detections = &mut self.detections;
        self.waiting.retain(|index| {
            let detection = &mut detections[*index];
            if number > detection.number + AFTER {
                return false;
            }
            detection.file = Some(file.clone());
            detection.line = *line;
            // The next line may still tell which line of it.
            line.is_none()
        });
        self.last_place = last;
    }

    /// Gives what a line says went wrong to the test before it.
    fn reason(&mut self, number: usize, body: &str) {
        static REASONS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^\s*(?:E\s+)?(?:[\w.:]*(?:Error|Exception)\b.{2,}|assert(?:ion)? .+|[Ee]xpected:? .+|.*\bpanicked at .+|\S+_test\.go:\d+: .+)$")
                .expect("a constant pattern")
        });
        let Some(index) = self.unsaid.last().copied() else {
            return;
        };
        if number > self.detections[index].number + REASON {
            self.unsaid.clear();
        } else if number > self.detections[index].number && REASONS.is_match(body) {
            self.detections[index].message = Some(one_line(body, MAX_QUOTE));
            self.unsaid.clear();
        }
    }

    /// What the whole log shows.
    pub(crate) fn finish(mut self) -> Scanned {
        for (detection, step) in self.detections.iter_mut().zip(&self.steps_of) {
            detection.in_failed_step =
                *step == EVERY_STEP || self.failed_steps.is_empty() || self.failed_steps.contains(step);
        }
        let first = self.failed_steps.first().and_then(|step| step.checked_sub(1));
        Scanned {
            step: first.and_then(|step| self.steps.get(step as usize).cloned()),
            detections: self.detections,
            job: self.job,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Plain,
    Warning,
    Error,
}

/// A line without terminal sequences that something before us has made visible: `^[[31m`.
fn without_colours(body: &str) -> Cow<'_, str> {
    static COLOURS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\^\[\[[0-9;]*[mK]").expect("a constant pattern"));
    COLOURS.replace_all(body, "")
}

/// A line without the marker that a runner puts before it.
fn without_marker(body: &str) -> (&str, Level) {
    for (marker, level) in [
        ("##[error]", Level::Error),
        ("##[warning]", Level::Warning),
        ("[taskcluster:error] ", Level::Error),
    ] {
        if let Some(rest) = body.strip_prefix(marker) {
            return (rest, level);
        }
    }
    (body, Level::Plain)
}

/// The file and line that a line names, in the ways of compilers, interpreters and scanners.
fn place(body: &str) -> Option<(Option<&str>, Option<u32>)> {
    static PLACES: LazyLock<Regex> = LazyLock::new(|| {
        let path = r"[\w./\\@+-]+";
        let forms = [
            format!(r"^\s*--> (?P<a>{path}):(?P<b>\d+)"),
            r#"^\s*File "(?P<c>[^"]+)", line (?P<d>\d+)"#.to_owned(),
            format!(r"^\s*(?:Secret )?(?:Location|File|Source): +(?P<e>{path})(?::(?P<f>\d+))?"),
            r"^(?:Line|StartLine): +(?P<g>\d+)$".to_owned(),
            format!(r"^\s*at .*?\(?(?P<h>{path}\.[cm]?[jt]sx?):(?P<i>\d+):\d+\)?$"),
            format!(r"^\s*on (?P<j>{path}\.tf) line (?P<k>\d+)"),
            format!(r"^\s*[\x{{2502}}\x{{250c}}\x{{2500}} ]*(?P<l>{path}\.\w{{1,5}}):(?P<m>\d+)\b"),
            format!(r"^\s*(?P<n>(?:{path})?\w\.[A-Za-z]{{1,5}})$"),
        ];
        Regex::new(&forms.join("|")).expect("patterns are constants")
    });
    let found = PLACES.captures(body)?;
    let group = |names: [&str; 6]| {
        names
            .into_iter()
            .find_map(|name| found.name(name))
            .map(|found| found.as_str())
    };
    let file = group(["a", "c", "e", "h", "j", "l"]).or_else(|| found.name("n").map(|file| file.as_str()));
    let line = group(["b", "d", "f", "g", "i", "k"]).or_else(|| found.name("m").map(|line| line.as_str()));
    Some((file, line.and_then(|line| line.parse().ok())))
}

/// A path within the repository: the runner's own folders before it are gone.
fn relative(path: &str) -> String {
    static FOLDERS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:/home/runner/work/[^/]+/[^/]+/|/Users/runner/work/[^/]+/[^/]+/|/__w/[^/]+/[^/]+/|/github/workspace/|/builds/[^/]+/[^/]+/|[A-Za-z]:[\\/]a[\\/][^\\/]+[\\/][^\\/]+[\\/]|\./)")
            .expect("a constant pattern")
    });
    FOLDERS.replace(path, "").replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(log: &str) -> Scanned {
        let mut scan = Scan::default();
        for (index, line) in log.lines().enumerate() {
            scan.line(index + 1, line);
        }
        scan.finish()
    }

    #[test]
    fn a_finding_has_the_file_that_stands_after_or_before_it() {
        let rust = scan("error[E0308]: mismatched types\n  --> src/a.rs:5:9\n   |\n");
        let found = &rust.detections[0];
        assert_eq!((found.file.as_deref(), found.line), (Some("src/a.rs"), Some(5)));
        assert_eq!(found.subject.as_deref(), Some("E0308"));
        let python = scan(
            "  File \"/home/runner/work/a/a/app/x.py\", line 3\n    def f(:\n          ^\nSyntaxError: invalid syntax\n",
        );
        let found = &python.detections[0];
        assert_eq!((found.file.as_deref(), found.line), (Some("app/x.py"), Some(3)));
        let eslint = scan("/home/runner/work/a/a/src/app.js\n  7:13  error  'x' is not defined  no-undef\n");
        let found = &eslint.detections[0];
        assert_eq!((found.file.as_deref(), found.line), (Some("src/app.js"), Some(7)));
        let leak = scan(
            "RuleID:      aws-access-token\nEntropy:     3.5\nFile:        conf/app.env\nLine:        4\n",
        );
        let found = &leak.detections[0];
        assert_eq!(
            (found.file.as_deref(), found.line),
            (Some("conf/app.env"), Some(4))
        );
    }

    #[test]
    fn a_test_has_what_went_wrong_in_it() {
        let log = "FAIL src/a.test.js\n  ● sums › adds\n\n    expect(received).toBe(expected)\n\n    Expected: 3\n    Received: 4\nFAIL src/b.test.js\n";
        let found = scan(log).detections;
        let said: Vec<_> = found
            .iter()
            .map(|found| (found.number, found.message.as_deref()))
            .collect();
        assert_eq!(said, [(1, None), (2, Some("Expected: 3")), (8, None)]);
    }

    #[test]
    fn steps_are_told_apart_and_scripts_are_not_output() {
        let log = "##[group]Run pytest -q\nFAILED is what grep looks for: FAILED tests/old.py::x\n##[endgroup]\nFAILED tests/a.py::t - assert 1 == 2\n##[error]Process completed with exit code 1.\n##[group]Run ./upload\n##[endgroup]\ncurl: (6) Could not resolve host: x\n";
        let scanned = scan(log);
        assert_eq!(scanned.step.as_deref(), Some("pytest -q"));
        let kinds: Vec<_> = scanned
            .detections
            .iter()
            .map(|found| (found.kind, found.in_failed_step, found.number))
            .collect();
        assert_eq!(
            kinds,
            [
                (FailureType::Test, true, 4),
                (FailureType::Infrastructure, false, 8)
            ]
        );
    }

    #[test]
    fn trivys_lines_are_about_the_target_before_them() {
        let row = "\u{2502} lodash (package-lock.json) \u{2502} CVE-2026-1 \u{2502} HIGH \u{2502} fixed \u{2502} 4.17.20 \u{2502} 4.17.21 \u{2502}";
        let log = format!(
            "web/package-lock.json (npm)\nTotal: 1 (HIGH: 1, CRITICAL: 0)\n{row}\nregistry/app:1 (debian 12.4)\nTotal: 2 (HIGH: 2)\n"
        );
        let found = scan(&log).detections;
        let kinds: Vec<_> = found.iter().map(|found| found.kind).collect();
        let sca = FailureType::SecuritySca;
        let image = FailureType::ContainerCve;
        assert_eq!(kinds, [sca, sca, sca, image, image]);
        assert_eq!(
            (found[2].subject.as_deref(), found[2].fixed_in.as_deref()),
            (Some("lodash"), Some("4.17.21"))
        );
    }

    #[test]
    fn repetitions_are_counted_and_not_kept() {
        let lines: Vec<String> = (0..20_000).map(|n| format!("a.c:{n}:1: error: no {n}")).collect();
        assert_eq!(scan(&lines.join("\n")).detections.len(), MAX_OF_A_RULE);
    }
}

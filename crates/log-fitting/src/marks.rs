//! What the words of a line say about it: the marks that runners, compilers, test tools, shells and libraries leave.

use std::sync::LazyLock;

use regex::bytes::{RegexSet, RegexSetBuilder};

/// How bad a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Nothing stands out.
    Ordinary,
    /// Says where: a file with a line, a frame of a stack.
    Place,
    /// Degraded, handled.
    Warning,
    /// Uses the words of failures, and may mean something else.
    Suspect,
    /// Counts what failed.
    Summary,
    /// Something failed.
    Failure,
    /// How it ended: a crash, or the verdict of what ran it.
    Verdict,
}

impl Mark {
    /// How much such a line is worth when there is no other like it.
    pub(crate) fn weight(self) -> f64 {
        match self {
            Self::Ordinary => 0.5,
            Self::Place => 2.0,
            Self::Warning => 2.5,
            Self::Suspect => 5.0,
            Self::Summary | Self::Failure => 8.0,
            Self::Verdict => 11.0,
        }
    }

    /// The highest mark of a line without its time.
    pub(crate) fn of(line: &str) -> Self {
        let line = crate::text::prefix(line, SEARCHED);
        let found = RULES.set.matches(line.as_bytes());
        if !found.matched_any() {
            return Self::Ordinary;
        }
        let passed = found.matched(0);
        let mut highest = Self::Ordinary;
        for index in found.iter().skip_while(|index| *index < 2) {
            highest = highest.max(RULES.marks[index]);
        }
        // What passed is named after failures all the same: `test error_is_reported ... ok`.
        if passed && highest < Self::Verdict {
            return Self::Ordinary;
        }
        if found.matched(1) && highest <= Self::Suspect {
            return Self::Ordinary;
        }
        highest
    }
}

/// Bytes of a line that are looked at: what it says of itself is at its beginning.
const SEARCHED: usize = 2_048;

struct Rules {
    set: RegexSet,
    marks: Vec<Mark>,
}

/// Compiled once for all logs.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let table = [(Mark::Ordinary, PASSED), (Mark::Ordinary, HARMLESS)];
    let rows = table.into_iter().chain(
        [
            (Mark::Verdict, VERDICT),
            (Mark::Failure, FAILURE),
            (Mark::Summary, SUMMARY),
            (Mark::Suspect, SUSPECT),
            (Mark::Warning, WARNING),
            (Mark::Place, PLACE),
        ]
        .into_iter()
        .flat_map(|(mark, patterns)| patterns.iter().map(move |pattern| (mark, *pattern))),
    );
    let (marks, patterns): (Vec<Mark>, Vec<&str>) = rows.unzip();
    let set = RegexSetBuilder::new(patterns)
        .unicode(false)
        .size_limit(64 << 20)
        // The default makes its states again and again, at a third of the speed.
        .dfa_size_limit(16 << 20)
        .build()
        .expect("patterns are constants");
    Rules { set, marks }
});

/// Lines of tests and steps that went well.
const PASSED: &str = r"^\s*(?:ok|PASS|PASSED|TEST-PASS|TEST-OK|TEST-START|TEST-KNOWN-FAIL|\[ +OK +\]|\[ +RUN +\]|=== RUN|--- PASS)\b|(?:^|\s)(?:\xE2\x9C\x93|\xE2\x9C\x94|\xE2\x88\x9A)|(?:\.\.\.|:) ?(?:ok|OK|PASSED|passed|skipped)$|\bPASSED\b|^(?:Compiling|Checking|Downloading|Downloaded|Installing|Unpacking|Selecting|Preparing|Setting up|Requirement already|Collecting|copying|adding|creating|Get:\d|remote: (?:Counting|Compressing|Enumerating)) |\bTEST-PASS\b";
/// Words of failures that say the opposite, or are options and names.
const HARMLESS: &str = r"(?i)\b(?:0|no|without|zero) +(?:failed|failures?|errors?|problems?|issues?|vulnerabilities|conflicts?)\b|(?:fail(?:ed|ures?)?|errors?)['\x22]?[:=] ?(?:0|none|null|false)\b|--?\w*[-_]?(?:error|fail)\w*|-W(?:no-)?error|continue-on-error|fail-fast|on[-_]error|errexit|if-no-files-found|thiserror|error[-_](?:handler|handling|page|prone|chain|stack)|\bif: |failure\(\)";

/// How it ended.
const VERDICT: &[&str] = &[
    r"##\[error\]|\[taskcluster:error\]|^ERROR: Job failed|Finished: FAILURE|marked build as failure",
    r"(?i)\bexit(?:ed|s)?(?: with)?(?: non-?zero)?(?: exit)?[- ](?:status|code)[: =]*-?[1-9]|returned (?:a )?non-?zero|code=exited, status=[1-9]",
    r"BUILD FAIL|FAILURE: Build failed|Build failed|build stopped|^make(?:\[\d+\])?: \*\*\*|npm ERR!|ELIFECYCLE|could not compile|did not complete in time",
    r"(?i)\b(?:has )?timed out after\b|run ?time exceeded|exceeded the (?:maximum|time)|killed by signal|terminated by signal|received signal|received SIG|No output has been received|DeadlineExceeded|BackoffLimitExceeded",
    r"(?i)segmentation fault|core dumped|\bpanicked at\b|^panic:|^fatal(?: error)?:|oomkilled|out of memory|outofmemory|cannot allocate memory|no space left on device|stack overflow|stack smashing|double free",
    r"PROCESS-CRASH|UNEXPECTED|Fatal Python error|(?:Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|DATA RACE|\bSIG(?:SEGV|ABRT|BUS|ILL|FPE|KILL)\b",
    r"CrashLoopBackOff|ImagePullBackOff|ErrImagePull|FailedScheduling|FailedMount|CreateContainerConfigError|Evicted\b",
];
/// Something failed.
const FAILURE: &[&str] = &[
    r"\b(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Failure|Fault|Panic)(?:: |:$| \(|\(|$)",
    r"(?i)\berror(?:\[\w+\]| +[A-Z]{1,6}-?\d{2,5})?: |(?:fatal|internal compiler|linker|syntax|type|runtime|assertion|permission|segmentation) (?:error|fault)|^error\b|\berror\b.*\bgenerated\b",
    r"\bFAIL(?:ED|URE|URES|S|ING)?\b|^not ok \d|\bFATAL\b|\bCRITICAL\b|\bE(?:RESOLVE|NOENT|ACCES|CONNREFUSED|CONNRESET|TIMEDOUT|PERM|ADDRINUSE)\b",
    r"Traceback \(most recent|^(?:E|>) {3}|assertion .*failed|AssertionError|did not match|\bexpected\b.*\b(?:got|but|actual|received|found)\b|Caused by:",
    r"^\s*(?:\xE2\x9C\x97|\xE2\x9C\x98|\xE2\x9C\x96|\xC3\x97|\xE2\x97\x8F|\xE2\x9D\x8C|\xE2\xA8\xAF) |\xE2\x9D\x8C|\xF0\x9F\x9A\xA8",
    r"(?i)no such file or directory|command not found|: not found$|not found:|cannot find (?:module|package|type|symbol|name|a |the )|undefined (?:reference|symbol|variable|name)|unresolved (?:external|import|reference)|(?:could not|couldn't|cannot|can't|unable to|failed to|refusing to|not able to) \w+",
    r"(?i)permission (?:to \S+ )?denied|access (?:is )?denied|not authori[sz]ed|unauthori[sz]ed|forbidden|not accessible|rate limit(?:ed)? exceeded|(?:http|status|returned error)\D{0,12}[45]\d\d\b",
    r"(?i)connection (?:was )?(?:refused|reset|timed out|aborted)|name or service not known|temporary failure in name|no such host|could not resolve|handshake fail|certificate (?:has )?(?:expired|verify|is not)|broken pipe",
    r"^(?:<<<<<<<|=======$|>>>>>>>) ?|\bCONFLICT\b|merge conflict|version solving failed|no matching (?:distribution|version|package)|(?:checksum|hash|integrity)\b.*(?:mismatch|fail|differ)",
    r"\bCVE-\d{4}-\d+|\bGHSA-\w{4}-|(?i)leaks? found|secret detected",
];
/// Counts what failed.
const SUMMARY: &[&str] = &[
    r"(?i)\b[1-9]\d*(?:/\d+)? +(?:\w+ +){0,2}(?:failed|failures?|failing|errors?|problems?|broken|crashed|timed out|unexpected|mismatch(?:es)?|vulnerabilities|leaks)\b",
    r"(?i)\b(?:failed|failures?|failing|errors?|crashed|broken)['\x22]?[:=(] *[1-9]\d*|\b[1-9]\d* of \d+\b|\b\d+ passed\b|Tests?(?: Suites)?: ",
];
/// The words of failures.
const SUSPECT: &[&str] = &[
    r"(?i)error|exception|fail|refus|denied|abort|crash|kill(?:ed|ing)|corrupt|invalid|illegal|unable|unexpected|unhealthy|unreachable|unavailable|missing|mismatch|not (?:found|supported|allowed|permitted|valid|defined|exist|match|available|installed|ready)|doesn'?t (?:exist|match)|does not (?:exist|match|have)|did not|cannot|can't|couldn'?t|could not|too (?:many|large|long|deep|old)|more than the|exceed|violat|undefined|unknown|unrecognized|incompatible|conflict|timed? ?out|hang(?:ing)?\b|deadlock|leak|overflow|reject|expired|unmet|obsolete|differ(?:s|ent)?\b|would (?:be )?(?:reformat|change)|out of (?:date|sync|range|bounds)|stale|not an? |must (?:be|not)|should (?:be|extend|not)|forgot|bad ",
];
const WARNING: &[&str] = &[r"(?i)\bwarn|deprecat|retry|retries|slow\b|throttl|timeout|skipp"];
/// Where.
const PLACE: &[&str] = &[
    r#"^\s*(?:at .+[:(]\d+|File ".+", line \d+|--> .+:\d+)|(?:^|[\s(])[\w./\\-]+\.[A-Za-z]{1,5}[:(]\d+"#,
    r"^(?:\+|\$|> ) ?\S|##\[group\]Run |##\[command\]",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_mark_failures_in_their_own_ways() {
        for (line, mark) in [
            ("##[error]Process completed with exit code 101.", Mark::Verdict),
            ("thread 'main' panicked at src/main.rs:3:5:", Mark::Verdict),
            ("TEST-UNEXPECTED-FAIL | dom/a.html | timed out", Mark::Verdict),
            ("make: *** [Makefile:12: test] Error 2", Mark::Verdict),
            ("npm ERR! code ELIFECYCLE", Mark::Verdict),
            (
                "src/main.c:3:5: error: expected ';' before 'return'",
                Mark::Failure,
            ),
            ("error[E0308]: mismatched types", Mark::Failure),
            ("src/app.ts(3,5): error TS2345: Argument of type", Mark::Failure),
            ("E   AssertionError: assert 1 == 2", Mark::Failure),
            (
                "ValueError: could not convert string to float: 'x'",
                Mark::Failure,
            ),
            ("--- FAIL: TestParse (0.00s)", Mark::Failure),
            ("not ok 3 - parses the header", Mark::Failure),
            ("  \u{2716} renders the page", Mark::Failure),
            ("sh: 1: pnpm: not found", Mark::Failure),
            ("3 problems (2 warnings)", Mark::Summary),
            ("Found 279 errors in 9 files", Mark::Summary),
            ("Your branch is out of date", Mark::Suspect),
            ("warning: unused variable", Mark::Warning),
            ("  at Object.<anonymous> (src/app.js:3:5)", Mark::Place),
        ] {
            assert_eq!(Mark::of(line), mark, "{line}");
        }
    }

    #[test]
    fn words_of_failures_do_not_make_one() {
        for line in [
            "everything is fine",
            "test error_is_reported ... ok",
            "        PASS [   0.010s] tokio sync::errors mpsc_error_bound",
            "tests/test_errors.py::test_fail PASSED",
            "   Compiling thiserror v2.0.12",
            "0 errors, no failures",
            "rustc -W error=unused --fail-fast",
        ] {
            assert_eq!(Mark::of(line), Mark::Ordinary, "{line}");
        }
    }
}

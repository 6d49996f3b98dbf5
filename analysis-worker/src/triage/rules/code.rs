//! Compilers, type checkers, linters, formatters.

use super::Rule;
use crate::report::FailureType::Lint;

const fn rule(tool: &'static str, weight: u8, pattern: &'static str) -> Rule {
    Rule::new(Lint, tool, weight, pattern)
}

pub(super) const RULES: &[Rule] = &[
    // Compilers.
    rule("rustc", 7, r"^error(?:\[(?P<subject>[A-Z]\d{4}|clippy::\w+)\])?: (?P<message>[^.]{4,}.*)$").after(),
    rule("rustc", 9, r"^error: could not compile `(?P<subject>[^`]+)`"),
    rule("compiler", 7, r"^(?P<file>[\w./\\+-]+\.[A-Za-z+]{1,5}):(?P<line>\d+):\d+: (?:fatal )?error: (?P<message>.+)"),
    rule("compiler", 7, r"^(?P<file>[\w./\\:+-]+\.[A-Za-z+]{1,5})\((?P<line>\d+)(?:,\d+)?\)\s?: (?:fatal )?error (?P<subject>[A-Z]{1,4}\d{3,5}): (?P<message>.+)"),
    rule("linker", 8, r"(?:undefined reference to|undefined symbol:|Undefined symbols for architecture|unresolved external symbol) ?(?P<subject>\S+)"),
    rule("linker", 8, r"^collect2: error: ld returned|linker command failed with exit code|\bLNK\d{4}\b"),
    rule("tsc", 7, r"^(?P<file>[\w./\\@+-]+\.[cm]?tsx?):(?P<line>\d+):\d+ - error (?P<subject>TS\d+): (?P<message>.+)"),
    rule("go build", 6, r"^(?:\./)?(?P<file>[\w./-]+\.go):(?P<line>\d+):\d+: (?P<message>(?:undefined|cannot|syntax error|missing|declared|imported|invalid|too many|not enough|assignment|undeclared|multiple-value|.* redeclared).*)"),
    rule("go build", 8, r"^FAIL\s+(?P<subject>\S+) \[build failed\]"),
    rule("maven", 7, r"^\[ERROR\] (?P<file>\S+\.(?:java|kt|scala)):\[(?P<line>\d+),\d+\] (?P<message>.+)"),
    rule("maven", 9, r"COMPILATION ERROR|Compilation failure"),
    rule("kotlinc", 7, r"^e: (?:file://)?(?P<file>\S+\.kts?):(?P<line>\d+)(?::\d+)? (?P<message>.+)"),
    rule("gradle", 9, r"^> Task (?P<subject>:\S*(?:compile|kapt|checkstyle|spotless|detekt|ktlint|pmd|spotbugs|lint|[hH]ealth|apiCheck|javadoc|errorprone)\S*) FAILED"),
    rule("ninja", 6, r"^FAILED: (?:\[code=\d+\] )?(?P<subject>\S+\.(?:o|obj|so|a|ddi|pcm)\b\S*)"),
    rule("bazel", 7, r"^ERROR: \S+BUILD(?:\.bazel)?:\d+:\d+: (?P<message>(?:Compiling|Linking|Building|GoCompilePkg|Javac|CppCompile|TypeScript).* failed.*)"),
    rule("swiftc", 7, r"^(?P<file>\S+\.swift):(?P<line>\d+):\d+: error: (?P<message>.+)"),
    rule("cmake", 7, r"^CMake Error(?: at (?P<file>[\w./-]+):(?P<line>\d+))?"),
    // Languages that are parsed when they run.
    rule("Python", 7, r"^(?:E +)?(?P<message>(?:SyntaxError|IndentationError|TabError): .+)").before(),
    rule("Node.js", 6, r"^(?P<message>SyntaxError: .*(?:Unexpected|Invalid|missing|Cannot use).*)").before(),
    rule("git", 8, r"^\s*(?P<message>(?:<<<<<<<|>>>>>>>) [\w./-]+.*)$").before(),
    // Type checkers.
    rule("mypy", 7, r"^(?P<file>[\w./\\-]+\.pyi?):(?P<line>\d+)(?::\d+)?: error: (?P<message>.+?)(?:\s+\[(?P<subject>[\w-]+)\])?$"),
    rule("mypy", 9, r"^Found (?P<subject>\d+ errors? in \d+ files?)"),
    rule("pyright", 7, r"^\s*(?P<file>\S+\.pyi?):(?P<line>\d+):\d+ - error: (?P<message>.+?)(?: \((?P<subject>report\w+)\))?$"),
    rule("pyright", 8, r"^[1-9]\d* errors?, \d+ warnings?, \d+ (?:informations?|notes?)"),
    rule("flow", 8, r"^Found [1-9]\d* errors?$|^Error -+ (?P<file>\S+):(?P<line>\d+):\d+"),
    rule("tsc", 8, r"^Found [1-9]\d* errors? in (?:\d+ files?|(?P<file>\S+?):(?P<line>\d+))"),
    // Linters.
    rule("linter", 6, r"^(?P<file>[\w./\\-]+\.pyi?):(?P<line>\d+):\d+:? (?P<subject>[A-Z]{1,4}\d{2,4})\b:? (?P<message>.+)"),
    rule("ruff", 6, r"^(?P<subject>[A-Z]{1,4}\d{3,4}) (?:\[\*\] )?(?P<message>[A-Z`].+)$").after(),
    rule("ruff", 9, r"^Found [1-9]\d* errors?\.(?:$| )|^\[\*\] \d+ fixable|^[1-9]\d* files? would be reformatted"),
    rule("eslint", 6, r"^\s+(?P<line>\d+):\d+\s+error\s+(?P<message>.+?)\s\s+(?P<subject>[@\w/-]+)$").before(),
    rule("eslint", 9, r"^\W*\d+ problems? \([1-9]\d* errors?, \d+ warnings?\)"),
    rule("biome", 7, r"^(?P<file>[\w./-]+\.\w{1,5}):(?P<line>\d+):\d+ (?P<subject>lint/\S+|format|parse|assist/\S+)"),
    rule("prettier", 8, r"^\[(?:warn|error)\] (?P<message>Code style issues .*|Run Prettier .*)"),
    rule("prettier", 6, r"^\[(?:warn|error)\] (?P<file>[\w./@-]+\.\w{1,5})(?:$|: SyntaxError: (?P<message>.+?) \((?P<line>\d+):\d+\))"),
    rule("black", 7, r"^would reformat (?P<file>\S+)|^error: cannot format (?P<subject>\S+):"),
    rule("black", 9, r"^(?:Oh no! .*|[1-9]\d* files? would be reformatted.*)"),
    rule("isort", 7, r"^ERROR: (?P<file>\S+) Imports are incorrectly sorted"),
    rule("rustfmt", 7, r"^Diff in (?P<file>\S+?\.rs):(?P<line>\d+)|^Diff in (?P<subject>\S+\.rs) at line \d+"),
    rule("gofmt", 6, r"^(?:diff -u \S+\.orig |diff )(?P<file>\S+\.go)|(?P<subject>gofmt)(?:ed)?\b.*(?:needed|required|not formatted)"),
    rule("golangci-lint", 7, r"^(?P<file>[\w./-]+\.go):(?P<line>\d+)(?::\d+)?: (?P<message>.+) \((?P<subject>[a-z][\w-]+)\)$"),
    rule("clang-tidy", 7, r"^(?P<file>\S+\.(?:c|cc|cpp|cxx|h|hpp|cu|m|mm)):(?P<line>\d+):\d+: (?:error|warning): (?P<message>.+) \[(?P<subject>[a-z]+-[\w.,-]+)\]$"),
    rule("clang-format", 7, r"(?P<file>\S+):(?P<line>\d+):\d+: error: code should be clang-formatted"),
    rule("lintrunner", 7, r"^>>> (?:Lint for|General linter failure)(?: (?P<file>\S+))?:"),
    rule("linter", 6, r"(?i)\blint(?:er|ers|ing)?\b[^/.]{0,40}\b(?:failed|failure|errors? found|problems? found)\b"),
    rule("pylint", 6, r"^(?P<file>\S+\.py):(?P<line>\d+):\d+: (?P<subject>[EFWCR]\d{4}): (?P<message>.+)"),
    rule("pylint", 6, r"^\S*[Yy]our code has been rated at"),
    rule("shellcheck", 7, r"^In (?P<file>\S+) line (?P<line>\d+):$"),
    rule("shellcheck", 6, r"\b(?P<subject>SC\d{4})\b(?: \([a-z]+\))?: (?P<message>.+)").before(),
    rule("hadolint", 7, r"(?P<file>\S*Dockerfile\S*):(?P<line>\d+) (?P<subject>(?:DL|SC)\d{4}) \w+: (?P<message>.+)"),
    rule("markdownlint", 7, r"^(?P<file>\S+\.md):(?P<line>\d+)(?::\d+)? (?:error )?(?P<subject>MD\d{3})/\S+ (?P<message>.+)"),
    rule("yamllint", 5, r"^\s+(?P<line>\d+):\d+\s+error\s+(?P<message>.+?)\s+\((?P<subject>[a-z-]+)\)$").before(),
    rule("actionlint", 7, r"^(?P<file>\.github/\S+\.ya?ml):(?P<line>\d+):\d+: (?P<message>.+)"),
    rule("pre-commit", 8, r"^(?P<subject>[^.]{3,})\.{3,}(?:\(no files to check\))?Failed$"),
    rule("pre-commit", 7, r"^- hook id: (?P<subject>\S+)"),
    rule("rubocop", 7, r"^(?P<file>\S+\.rb):(?P<line>\d+):\d+: [CWEF]: (?:\[Correctable\] )?(?P<subject>\w+/\w+): (?P<message>.+)"),
    rule("checkstyle", 7, r"^\[(?:ERROR|ant:checkstyle\] \[ERROR)\] (?P<file>\S+\.java):(?P<line>\d+)(?::\d+)?: (?P<message>.+)"),
    rule("stylelint", 6, r"^\s+(?P<line>\d+):\d+\s+\S\s+(?P<message>.+?)\s\s+(?P<subject>[a-z]+[\w-]+/[\w-]+|[a-z]+(?:-[a-z]+){2,})$").before(),
    rule("codespell", 6, r"^(?P<file>[\w./-]+):(?P<line>\d+): (?P<message>\w+ ==> \w+)"),
    rule("typos", 7, r"^error: `\w+` should be `\w+`").after(),
    rule("helm lint", 8, r"^Error: (?P<message>\d+ chart\(s\) linted, [1-9]\d* chart\(s\) failed)"),
    rule("kubeconform", 7, r"^(?P<file>\S+\.ya?ml) - (?P<subject>\S+ \S+) is invalid: (?P<message>.+)"),
    rule("generated files", 6, r"(?i)(?:lock ?file|generated (?:code|files?)|snapshots? of the API|go\.(?:mod|sum)|bindings?)\b.*\b(?:is|are|not) (?:out of date|outdated|stale|up[ -]to[ -]date|in sync)\b"),
    rule("Sphinx", 7, r"^(?P<file>\S+\.(?:rst|md|py)):(?P<line>\d+): (?:WARNING|ERROR|CRITICAL): (?P<message>.+)"),
    rule("linter", 5, r#"^\s*File "(?P<file>[^"]*/(?:lint|linters?|lint_\w+)/[^"]+)", line (?P<line>\d+)"#),
];

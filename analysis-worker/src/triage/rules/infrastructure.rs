//! The machine, the network, permissions, the workflow and its tools.

use super::Rule;
use crate::report::FailureType::Infrastructure;

const fn rule(tool: &'static str, weight: u8, pattern: &'static str) -> Rule {
    Rule::new(Infrastructure, tool, weight, pattern)
}

pub(super) const RULES: &[Rule] = &[
    // The runner.
    rule(
        "runner",
        9,
        r"lost communication with the server|The runner has received a shutdown signal|runner\b.*\b(?:was|is) (?:terminated|deprovisioned|offline)",
    ),
    rule(
        "runner",
        9,
        r"(?P<message>The operation was cancell?ed|The (?:job|step|run|action)\b.*\b(?:was|has been) cancell?ed|[Rr]eceived (?:SIGINT|SIGTERM)\b.*|Canceling since a higher priority waiting request)",
    ),
    rule(
        "runner",
        10,
        r"(?P<message>The (?:action|job)\b.* (?:has timed out|has exceeded the maximum execution time|running on runner .* has exceeded).*)",
    ),
    rule(
        "runner",
        8,
        r"(?i)(?P<message>max(?:imum)? run ?time exceeded|exceeded the maximum (?:execution )?time|no output has been received in the last \S+ \w+|job exceeded maximum time)",
    ),
    rule(
        "runner",
        9,
        r"(?P<message>pod failed to come online.*|Failed to (?:initialize|start) (?:the )?(?:container|runner|job).*|(?:failed|unable) to (?:create|start) (?:the )?runner.*)",
    ),
    rule(
        "runner",
        8,
        r"(?i)(?P<message>docker:? (?:daemon|engine)?.*(?:is not running|cannot connect)|Cannot connect to the Docker daemon.*)",
    ),
    rule(
        "hardware",
        8,
        r"(?i)(?P<message>No (?:CUDA|HIP|NVIDIA)\S* (?:GPUs?|devices?) (?:are )?(?:available|found).*|NVML: .*|nvidia-smi has failed.*|CUDA driver version is insufficient.*|(?:unspecified launch failure|uncorrectable ECC error).*)",
    ),
    // Memory and disk.
    rule(
        "disk",
        10,
        r"(?P<message>.*No space left on device.*|.*\bENOSPC\b.*|.*[Dd]isk quota exceeded.*|.*not enough (?:free )?(?:disk )?space.*)",
    ),
    rule(
        "memory",
        8,
        r"(?P<message>.*CUDA out of memory.*|.*(?:torch\.|cuda)\S*OutOfMemoryError.*|.*\bOOMKilled\b.*|.*oom-kill.*|.*JavaScript heap out of memory.*|.*java\.lang\.OutOfMemoryError.*|.*[Cc]annot allocate memory.*|.*std::bad_alloc.*|.*signal: 9, SIGKILL.*|.*virtual memory exhausted.*)",
    ),
    rule(
        "memory",
        8,
        r"(?P<message>Process completed with exit code 137\b.*|^Killed$|exit(?:ed with)? (?:code|status):? 137\b)",
    ),
    // The network.
    rule(
        "network",
        7,
        r"(?P<message>.*(?:[Cc]ould not resolve host|Name or service not known|Temporary failure in name resolution|no such host|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|NameResolutionError).*)",
    ),
    rule(
        "network",
        6,
        r"(?P<message>.*(?:[Cc]onnection (?:was )?(?:refused|reset|timed out)|ECONNRESET|ECONNREFUSED|ETIMEDOUT|ESOCKETTIMEDOUT|socket hang up|TLS handshake (?:timeout|failure)|i/o timeout|net/http: request canceled|Read timed out|Operation timed out|SSL_ERROR|unexpected EOF|early EOF|RPC failed; (?:curl|HTTP)).*)",
    ),
    rule(
        "network",
        6,
        r"(?i)(?P<message>.*(?:\b(?:http(?:/\d\S*)?(?: error)?|status(?:[ _]code)?|returned error|response code)\W{1,4}(?:500|502|503|504)\b|\b(?:502 bad gateway|503 service unavailable|504 gateway time-?out|429 too many requests)\b).*)",
    ),
    rule(
        "rate limit",
        9,
        r"(?i)(?P<message>.*(?:API rate limit exceeded|secondary rate limit|toomanyrequests|rate limit reached|You have reached your pull rate limit|quota exceeded|RESOURCE_EXHAUSTED).*)",
    ),
    rule(
        "certificate",
        7,
        r"(?i)(?P<message>.*(?:certificate (?:has expired|verify failed|is not yet valid)|self.signed certificate|unable to get local issuer certificate|x509: certificate).*)",
    ),
    // Permissions.
    rule(
        "permissions",
        9,
        r"(?P<message>.*(?:Resource not accessible by (?:integration|personal access token)|remote: Permission to \S+ denied|is not authorized to perform|refusing to allow a GitHub App|GITHUB_TOKEN.*permission|Write access to repository not granted|Input required and not supplied: \S*(?:token|key|secret|password)\S*|protected branch hook declined|GH006).*)",
    ),
    rule(
        "permissions",
        7,
        r"(?P<message>.*(?:requested URL returned error: 40[13]|Bad credentials|[Aa]uthentication (?:failed|is required)|could not read Username|Permission denied \(publickey\)|AccessDenied\b|Access Denied|HTTP 40[13]\b|401 Unauthorized|403 Forbidden|invalid_grant|Could not assume role|Not authorized|npm error code E40[13]|unauthorized: authentication required|ExpiredToken).*)",
    ),
    // The workflow.
    rule(
        "workflow",
        9,
        r"(?P<message>.*(?:Unable to resolve action|Can't find 'action\.ya?ml'|Invalid workflow file|The workflow is not valid|Unexpected input\(s\)|The template is not valid|Unrecognized named-value|Unable to find an? .*action|deprecated version of `?actions/).*)",
    ),
    rule(
        "workflow",
        9,
        r"(?P<message>.*(?:Unable to download artifact|Artifact not found|No files were found with the provided path|Unable to find any artifacts|Failed to CreateArtifact|artifact (?:has )?expired).*)",
    ),
    rule(
        "workflow",
        6,
        r#"(?P<message>^.*"(?:failure|cancelled)" *(?:==|!=) *"(?:success|skipped)".*|^.*"result": "(?:failure|cancelled)".*)"#,
    ),
    rule(
        "workflow",
        6,
        r#"^\s*File "(?P<file>[^"]*/\.(?:github|circleci|buildkite|gitlab)/[^"]+)", line (?P<line>\d+)"#,
    ),
    rule(
        "git",
        8,
        r"(?P<message>.*(?:couldn't find remote ref|unable to access '|Could not read from remote repository|fatal: reference is not a tree|pathspec '\S+' did not match|fatal: unable to checkout|refusing to merge unrelated|fatal: not a git repository|Unable to create '.*index\.lock'|failed to push some refs|! \[(?:remote )?rejected\]|Updates were rejected).*)",
    ),
    // Tools and dependencies that are not there.
    rule(
        "missing tool",
        8,
        r"(?P<message>^(?:[\w./-]+: )*(?:line )?(?:\d+: )*(?P<subject>[\w.+-]+): (?:command )?not found$)",
    ),
    rule(
        "missing tool",
        7,
        r"(?P<message>.*(?:exit(?:ed with)? (?:code|status):? 127\b|executable file not found in \$PATH|is not recognized as an internal or external command|env: .*No such file or directory|No such file or directory \(os error 2\)$|spawn \S+ ENOENT).*)",
    ),
    rule(
        "missing library",
        8,
        r"(?P<message>.*(?P<subject>\b\S+\.(?:so|dylib|dll)\S*):? (?:cannot open shared object file|image not found|not found \(required by).*)",
    ),
    rule(
        "pip",
        8,
        r"^(?:ERROR: )?(?P<message>(?:No matching distribution found for|Could not find a version that satisfies the requirement|Cannot install .* because these package versions have conflicting|ResolutionImpossible).*)",
    ),
    rule(
        "uv",
        8,
        r"(?P<message>.*No solution found when resolving dependencies.*)",
    ),
    rule(
        "Python packages",
        6,
        r"^(?:error: )?(?P<message>(?:subprocess-exited-with-error|metadata-generation-failed|Failed building wheel for .*|version solving failed.*|SolverProblemError.*|Failed to (?:build|download) `.*))",
    ),
    rule(
        "npm",
        8,
        r"^npm (?:ERR!|error) (?P<message>(?:code )?(?:ERESOLVE|ETARGET|E404|ENOTFOUND|EINTEGRITY|EUSAGE|EBADENGINE|ENOENT|ECONNRESET)\b.*)",
    ),
    rule(
        "yarn",
        8,
        r"(?P<message>.*(?:YN0028|YN0001|YN0018|Your lockfile needs to be updated|The lockfile would have been (?:created|modified)|ERR_PNPM_\w+).*)",
    ),
    rule(
        "Cargo",
        7,
        r"^error: (?P<message>failed to (?:select a version|get `|download|load source|fetch|parse lock file|resolve).*|the lock file .* needs to be updated.*|no matching package named.*)",
    ),
    rule(
        "Go modules",
        7,
        r"(?P<message>^go: .*(?:unknown revision|missing go\.sum entry|verifying module: checksum mismatch|module lookup disabled|reading \S+: 4\d\d|updates to go\.mod needed|no matching versions).*)",
    ),
    rule(
        "apt",
        8,
        r"^E: (?P<message>(?:Unable to (?:locate package|fetch|acquire)|Failed to fetch|Package .* has no installation candidate|Could not get lock|The repository .*|Unmet dependencies).*)",
    ),
    rule(
        "conda",
        7,
        r"(?P<message>.*(?:ResolvePackageNotFound|UnsatisfiableError|LibMambaUnsatisfiableError|CondaHTTPError|PackagesNotFoundError).*)",
    ),
    rule(
        "Gradle",
        7,
        r"(?P<message>.*(?:Could not resolve all (?:files|dependencies|artifacts)|Could not (?:GET|HEAD|download) '|Could not find [\w.]+:[\w.-]+:).*)",
    ),
    rule(
        "Maven",
        7,
        r"(?P<message>.*(?:Could not (?:transfer|find) artifact|Could not resolve dependencies|Non-resolvable parent POM).*)",
    ),
    rule(
        "download",
        7,
        r"(?i)(?P<message>.*(?:checksum|hash|sha256|digest|integrity)\b[^\n]{0,40}\b(?:mismatch|did not match|does not match|verification failed).*|.*THESE PACKAGES DO NOT MATCH THE HASHES.*)",
    ),
    rule(
        "docker",
        7,
        r"(?P<message>.*(?:manifest (?:unknown|for \S+ not found)|pull access denied|failed to (?:resolve|fetch) (?:source metadata|reference|oauth token|anonymous token)|Error response from daemon|failed to compute cache key).*)",
    ),
    rule(
        "Dependabot",
        8,
        r"(?P<message>Dependabot encountered '?[1-9]\d*'? error.*|Dependabot encountered an error.*)",
    ),
    rule(
        "cache service",
        5,
        r"(?P<message>.*(?:Failed to (?:save|restore)|getCacheEntry failed|Cache service responded with \d+).*)",
    ),
    rule(
        "missing module",
        6,
        r"(?P<message>.*(?:ModuleNotFoundError: No module named|Error: Cannot find module) '?(?P<subject>[^'\s]+).*)",
    ),
    rule(
        "network",
        6,
        r"(?P<message>^curl: \(\d+\) .*|.*Failed to connect to \S+ port \d+.*)",
    ),
    rule(
        "download",
        6,
        r"(?i)(?P<message>.*(?:\bERROR 404\b|HTTP Error 404|404 Not Found|status code 404).*)",
    ),
    rule(
        "runner",
        8,
        r"(?P<message>.*(?:One or more containers failed to start|Docker (?:pull|create|start) failed).*)",
    ),
];

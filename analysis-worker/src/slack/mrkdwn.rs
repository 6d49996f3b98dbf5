//! Text from outside in Slack's markup: no mention, link or formatting comes of it, and its length is known.

/// `text` in one line of `mrkdwn`, at most `max` characters as Slack counts them.
///
/// Words that Slack would act on stand in code spans: addresses, mentions, formatting. `&`, `<` and `>` are escaped, so
/// that no `<!channel>` and no `<@U0123>` is left.
pub(crate) fn inline(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max) + 8);
    let mut length = 0;
    for word in text.split_whitespace() {
        let shown = if acts(word) { code(word) } else { escape(word) };
        let blank = usize::from(length > 0);
        let more = shown.chars().count() + blank;
        // One character is kept for the ellipsis.
        if length + more >= max {
            line.push('…');
            return line;
        }
        if blank > 0 {
            line.push(' ');
        }
        line.push_str(&shown);
        length += more;
    }
    line
}

/// Text where Slack shows no markup at all (`plain_text`), at most `max` characters.
pub(crate) fn plain(text: &str, max: usize) -> String {
    crate::text::one_line(text, max)
}

fn acts(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    word.contains(['@', '*', '_', '~', '`'])
        || lower.contains("://")
        || lower.contains("www.")
        || lower.contains("mailto:")
        || word.starts_with('#')
}

fn code(word: &str) -> String {
    format!("`{}`", escape(&word.replace('`', "'")))
}

fn escape(word: &str) -> String {
    word.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_acts() {
        for (text, expected) in [
            ("5 < 6 & 7 > 2", "5 &lt; 6 &amp; 7 &gt; 2"),
            ("<!channel> look", "&lt;!channel&gt; look"),
            ("<@U012AB3CD> @here", "`&lt;@U012AB3CD&gt;` `@here`"),
            (
                "<https://evil.example|the runbook>",
                "`&lt;https://evil.example|the` runbook&gt;",
            ),
            ("see www.evil.example", "see `www.evil.example`"),
            ("*urgent* _now_ ~not~ `rm`", "`*urgent*` `_now_` `~not~` `'rm'`"),
            ("#general", "`#general`"),
            ("a\nb\t c", "a b c"),
        ] {
            assert_eq!(inline(text, 1_000), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_words_and_never_inside_an_entity() {
        let text = "a<b ".repeat(1_000);
        let cut = inline(&text, 100);
        assert!(cut.chars().count() <= 100, "{cut}");
        assert!(cut.ends_with("a&lt;b…"), "{cut}");
        assert_eq!(inline(&"x".repeat(200), 100), "…");
        assert_eq!(inline("", 10), "");
    }
}

//! Texts within the length that GitHub takes.

/// Characters of the body of an issue or a comment.
pub(super) const MAX_BODY: usize = 65_536;
/// Characters of a title.
pub(super) const MAX_TITLE: usize = 256;

/// The text, cut at the end of a line when it is too long, with a note that says how much is gone.
///
/// A fence that the cut leaves open is closed, so that the note is read as ours. The marker of a text comes first in
/// it, where no cut reaches.
pub(super) fn fit(text: &str, max: usize) -> String {
    let length = text.chars().count();
    if length <= max {
        return text.to_owned();
    }
    // Of note and closing fence.
    let reserved = 200;
    let end = text
        .char_indices()
        .nth(max.saturating_sub(reserved))
        .map_or(text.len(), |(at, _)| at);
    let kept = text[..end].rfind('\n').map_or(&text[..end], |line| &text[..line]);
    let close = open_fence(kept)
        .filter(|fence| fence.len() < reserved / 2)
        .map_or_else(String::new, |fence| format!("\n{fence}"));
    let gone = length - kept.chars().count();
    format!("{kept}{close}\n\n… {gone} characters were left out: GitHub takes {max}.\n")
}

/// The run of backticks that a text leaves open.
fn open_fence(text: &str) -> Option<&str> {
    let mut open: Option<&str> = None;
    for line in text.lines() {
        let line = line.trim_start();
        let run = &line[..line.len() - line.trim_start_matches('`').len()];
        if run.len() < 3 {
            continue;
        }
        open = match open {
            None => Some(run),
            Some(fence) if run.len() >= fence.len() && line.trim_end() == run => None,
            open => open,
        };
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_with_its_fence_closed_and_the_rest_told() {
        let text = format!("<!-- key -->\n````text\n{}````\nend\n", "é line\n".repeat(20_000));
        let cut = fit(&text, MAX_BODY);
        assert!(cut.chars().count() <= MAX_BODY, "{}", cut.chars().count());
        assert!(cut.starts_with("<!-- key -->\n"));
        let (kept, note) = cut.split_once("\n````\n\n… ").expect("closed, then told");
        let gone: usize = note
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number");
        assert_eq!(kept.chars().count() + gone, text.chars().count());
        assert_eq!(fit("short", MAX_BODY), "short");
    }
}

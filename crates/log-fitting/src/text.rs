//! Text from outside, made harmless to show: no terminal sequences, no invisible or direction-changing characters.

/// Longest line of a log that is kept whole; longer ones keep their head and tail.
pub const MAX_LINE_CHARS: usize = 600;

/// Removes what a reader cannot see and a terminal would obey.
///
/// Terminal sequences (CSI, OSC and the like), control characters but newline and tab, bidirectional controls,
/// zero-width characters and the tag block are dropped; lone carriage returns and Unicode line separators become blanks.
/// A backslash before a newline joins the two lines, so that a value split that way is seen whole by what comes next;
/// the newline comes after the joined line, so that later lines keep their numbers.
pub fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut joined = 0;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_csi(&mut rest),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' | '\u{2028}' | '\u{2029}' => clean.push(' '),
            '\n' if clean.ends_with('\\') => {
                clean.pop();
                joined += 1;
            }
            '\n' => {
                clean.push('\n');
                clean.extend(std::iter::repeat_n('\n', std::mem::take(&mut joined)));
            }
            '\t' => clean.push(c),
            c if is_hidden(c) => {}
            c => clean.push(c),
        }
    }
    clean
}

/// After ESC: a CSI, an OSC or another string sequence, or a single character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.next_if(|c| !matches!(c, '\n' | '\u{1b}')) {
        Some('[') => skip_csi(rest),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // Ends with BEL or ESC \; an unterminated one ends with its line, so that it cannot hide the rest.
            while let Some(c) = rest.next_if(|c| *c != '\n') {
                if c == '\u{7}' {
                    return;
                }
                if c == '\u{1b}' {
                    rest.next_if(|c| *c == '\\');
                    return;
                }
            }
        }
        _ => {}
    }
}

/// Parameters and intermediates up to the final byte.
fn skip_csi(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while rest.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
    rest.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
}

/// One line of at most `max` characters: blanks and newlines become single spaces, the rest is cut with an ellipsis.
pub fn one_line(text: &str, max: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= max {
        return line;
    }
    let mut cut: String = line.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The line, or its head and tail around a mark that says how many bytes of `original_bytes` are gone.
pub fn clip_line(line: &str, original_bytes: usize, max_chars: usize) -> String {
    let chars = line.chars().count();
    if chars <= max_chars && original_bytes <= line.len() {
        return line.to_owned();
    }
    let half = max_chars / 2;
    if chars <= max_chars {
        return format!("{line} …[cut {} bytes]", original_bytes - line.len());
    }
    let head: String = line.chars().take(half).collect();
    let tail: String = line.chars().skip(chars - half).collect();
    let cut = original_bytes.max(line.len()) - head.len() - tail.len();
    format!("{head} …[cut {cut} bytes]… {tail}")
}

/// About how many tokens a text costs: four bytes each, which errs on the high side for English and logs.
pub fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// The longest prefix of at most `max` bytes that ends on a character.
pub fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_go_and_the_words_between_them_stay() {
        let text = "\u{1b}[31mERROR\u{1b}[0m failed \u{1b}]8;;https://evil.example\u{1b}\\click\u{1b}]0;owned\u{7} foo\u{8}\u{8}";
        assert_eq!(sanitise(text), "ERROR failed click foo");
        assert_eq!(sanitise("a \u{1b}]0;never ended\nb"), "a \nb");
        assert_eq!(sanitise("a\u{9b}1mb\u{85}c\u{7f}"), "abc");
    }

    #[test]
    fn invisible_and_direction_changing_characters_go() {
        let text = "ok\u{200b}\u{2060}\u{feff}\u{ad}\u{e0049}\u{e0067} \u{202e}abc\u{2066}\u{61c}";
        assert_eq!(sanitise(text), "ok abc");
    }

    #[test]
    fn line_ends_are_newlines_and_continued_lines_are_joined() {
        assert_eq!(sanitise("a\r\nb\rc\u{2028}d"), "a\nb c d");
        assert_eq!(sanitise("to\\\nken\nnext"), "token\n\nnext");
        assert_eq!(sanitise("to\\\r\nken"), "token");
    }

    #[test]
    fn a_title_is_one_line_of_bounded_length() {
        assert_eq!(one_line(" a\n b\t c ", 10), "a b c");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }

    #[test]
    fn a_long_line_keeps_head_and_tail_and_says_what_is_gone() {
        let line = format!("head{}tail", "A".repeat(10_000));
        let clipped = clip_line(&line, line.len(), 100);
        assert!(
            clipped.starts_with("head") && clipped.ends_with("tail"),
            "{clipped}"
        );
        assert!(clipped.contains("[cut 9908 bytes]"), "{clipped}");
        assert_eq!(clip_line("short", 5, 100), "short");
        assert_eq!(clip_line("short", 1_005, 100), "short …[cut 1000 bytes]");
    }
}

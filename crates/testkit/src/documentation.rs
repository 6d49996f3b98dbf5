//! Holds `docs/metrics.md` against what the parts declare.

use std::path::Path;

/// Checks that the section of `part` in `docs/metrics.md` is exactly `rows`. With `PLUMBLINE_UPDATE_DOCS=1` the section
/// is written instead.
///
/// # Panics
/// When the section is missing or differs; the message shows what is declared.
pub fn assert_metrics_documented(part: &str, rows: &str) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md"));
    let document = std::fs::read_to_string(path).expect("docs/metrics.md can be read");
    let heading = format!("\n## {part}\n");
    let (before, after) = document
        .split_once(&heading)
        .unwrap_or_else(|| panic!("docs/metrics.md has no section `{part}`"));
    let (section, rest) = match after.find("\n## ") {
        Some(end) => after.split_at(end),
        None => (after, ""),
    };
    let expected = format!("\n| series | kind | labels | meaning |\n| --- | --- | --- | --- |\n{rows}");
    if section.trim() == expected.trim() {
        return;
    }
    if std::env::var_os("PLUMBLINE_UPDATE_DOCS").is_some() {
        let document = format!("{before}{heading}{expected}{rest}");
        std::fs::write(path, document).expect("docs/metrics.md can be written");
        return;
    }
    panic!("docs/metrics.md, section `{part}`, is not what is declared; `make docs` writes:\n{expected}");
}

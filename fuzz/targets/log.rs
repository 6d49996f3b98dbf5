//! A log as a job may leave it: never more than its budget, and every line that is shown is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plumbline_log_fitting::{Fitter, Line, text};

fuzz_target!(|input: &[u8]| {
    let Some((budget, log)) = input.split_first() else {
        return;
    };
    let clean = text::sanitise(&String::from_utf8_lossy(log));
    assert!(!clean.contains('\u{1b}'));
    let lines: Vec<Line> = Line::parse_all(&clean).collect();
    let mut fitter = Fitter::new(budget.is_multiple_of(2).then(|| lines.iter().take(3).collect()));
    fitter.extend(lines.iter().cloned());
    let tokens = usize::from(*budget) * 4;
    let fitted = fitter.fit(tokens);
    // A mark of lines left out is the least that is said.
    assert!(fitted.text.len() <= (tokens * 4).max(40));
    assert!(fitted.kept <= fitted.lines && fitted.lines == lines.len());
});

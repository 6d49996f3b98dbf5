//! An error and its causes, for whoever stops passing it on.

use std::error::Error;

/// The error and its causes in one line, outermost first; a cause that its error has already told is not repeated.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("no such file")
            .context("cannot read churn.onnx")
            .context("model `churn`");
        assert_eq!(
            error_chain(&*error),
            "model `churn`: cannot read churn.onnx: no such file"
        );
        assert_eq!(error_chain(&*anyhow::anyhow!("plain")), "plain");
        let twice = anyhow::anyhow!("timed out").context("cannot connect: timed out");
        assert_eq!(error_chain(&*twice), "cannot connect: timed out");
    }
}

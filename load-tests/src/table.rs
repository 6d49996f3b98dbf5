//! Figures of interleaved rounds: medians, and Markdown tables of them.

/// The middle value; NaN for none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// A Markdown table.
#[derive(Clone, Debug)]
pub struct Table {
    text: String,
}

impl Table {
    /// With these columns.
    pub fn new(columns: &[&str]) -> Self {
        let text = format!(
            "| {} |\n|{}\n",
            columns.join(" | "),
            " --- |".repeat(columns.len())
        );
        Self { text }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        self.text += "| ";
        self.text += &cells.join(" | ");
        self.text += " |\n";
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A number with about three significant digits; a dash for none.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        "-".to_owned()
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["a", "b"]);
        table.row(&[figure(123.4), figure(f64::NAN)]);
        assert_eq!(table.text(), "| a | b |\n| --- | --- |\n| 123 | - |\n");
        assert_eq!([figure(12.34), figure(1.234)], ["12.3", "1.23"]);
    }
}

//! What a profile of so many rows can show.

use super::Profile;
use crate::monitor::Settings;
use crate::special::chi2_critical;

impl Profile {
    /// The smallest effect that a window of `settings.window_rows` rows can tell from chance, for the subject where it is
    /// largest; on the scale of the debiased PSI, 0 when no subject has two bins.
    ///
    /// `(χ²_{B−1}(α) − (B−1)) · (1/n + 1/m)` with `B` bins that hold rows, `n` rows of the profile, `m` rows of the
    /// window and `α` what the false-alarm budget allows a window: the critical value of Yurdakul (2018) less the mean
    /// when nothing changed. The many small bins that a comparison pools make it a little too large.
    pub fn detectable_effect(&self, settings: &Settings) -> f64 {
        let alpha = settings.window_p_value(self.subjects().count(), settings.window_rows);
        let scale = 1.0 / self.data.rows.max(1) as f64 + 1.0 / settings.window_rows.max(1) as f64;
        self.subjects()
            .map(|subject| {
                let bins = subject.reference_counts().into_iter().filter(|n| *n > 0).count();
                let dof = bins.saturating_sub(1) as f64;
                (chi2_critical(alpha, dof) - dof).max(0.0) * scale
            })
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::{Profile, Settings};

    fn example() -> Profile {
        Profile::from_json(include_bytes!("../../schema/example.profile.json")).expect("valid")
    }

    #[test]
    fn fewer_rows_show_only_larger_effects() {
        let settings = Settings::default();
        let effect = |rows: u64| {
            let mut profile = example();
            profile.data.rows = rows;
            profile.detectable_effect(&settings)
        };
        assert!(effect(100) > effect(1_000) && effect(1_000) > effect(100_000));
        assert!(effect(100_000) > 0.02, "500 rows show no less");
        let longer = Settings {
            window_rows: 50_000,
            ..settings
        };
        assert!(example().detectable_effect(&longer) < example().detectable_effect(&settings));
    }
}

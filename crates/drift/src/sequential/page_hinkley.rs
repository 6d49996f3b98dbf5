//! The Page–Hinkley test.

/// Settings of [`PageHinkley`]; the defaults are river's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageHinkleySettings {
    /// Values before the first alarm.
    pub min_values: u64,
    /// Change that is tolerated, in the unit of the values.
    pub delta: f64,
    /// Alarm when the sum has moved this far, in the unit of the values: standardise them first.
    pub threshold: f64,
    /// Forgetting of the sums, at most 1.
    pub forgetting: f64,
}

impl Default for PageHinkleySettings {
    fn default() -> Self {
        Self {
            min_values: 30,
            delta: 0.005,
            threshold: 50.0,
            forgetting: 0.9999,
        }
    }
}

/// Two-sided Page–Hinkley test for a change of the mean.
///
/// Page (1954), with the forgetting factor and the starting values of river 0.26, whose alarm positions it reproduces. The
/// value after an alarm starts it anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageHinkley {
    settings: PageHinkleySettings,
    state: State,
    alarmed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    count: u64,
    mean: f64,
    rise: f64,
    fall: f64,
    lowest_rise: f64,
    highest_fall: f64,
}

// river starts the maximum at −1 instead of −∞; after the first value it makes no difference but for tiny data.
const START: State = State {
    count: 0,
    mean: 0.0,
    rise: 0.0,
    fall: 0.0,
    lowest_rise: f64::INFINITY,
    highest_fall: -1.0,
};

impl PageHinkley {
    /// A test with no values yet.
    pub fn new(settings: PageHinkleySettings) -> Self {
        Self {
            settings,
            state: START,
            alarmed: false,
        }
    }

    /// Takes a value; true when it raises an alarm. Values that are not finite are ignored.
    pub fn update(&mut self, x: f64) -> bool {
        if !x.is_finite() {
            return false;
        }
        if self.alarmed {
            self.state = START;
        }
        let PageHinkleySettings {
            min_values,
            delta,
            threshold,
            forgetting,
        } = self.settings;
        let s = &mut self.state;
        s.count += 1;
        s.mean += 1.0 / s.count as f64 * (x - s.mean);
        let deviation = x - s.mean;
        s.rise = forgetting * s.rise + deviation - delta;
        s.fall = forgetting * s.fall + deviation + delta;
        s.lowest_rise = s.lowest_rise.min(s.rise);
        s.highest_fall = s.highest_fall.max(s.fall);
        self.alarmed = s.count >= min_values
            && (s.rise - s.lowest_rise > threshold || s.highest_fall - s.fall > threshold);
        self.alarmed
    }
}

impl Default for PageHinkley {
    fn default() -> Self {
        Self::new(PageHinkleySettings::default())
    }
}

#[cfg(test)]
mod tests {
    use super::PageHinkley;

    #[test]
    fn a_rise_and_a_fall_are_both_found() {
        for step in [3.0, -3.0] {
            let mut test = PageHinkley::default();
            assert!((0..500).all(|_| !test.update(0.0)));
            let found = (0..100).position(|_| test.update(step)).expect("found");
            assert!((10..40).contains(&found), "{found}");
            assert!(!test.update(f64::INFINITY));
        }
    }
}

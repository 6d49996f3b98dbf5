//! The trend of daily peaks.

use serde::Serialize;

use super::DAY_SECONDS;

/// Hours without which a day's peak may be missing.
const MIN_HOURS: usize = 20;
/// Two-sided 90 % of the normal distribution.
const Z: f64 = 1.644_853_626_951_472_2;
/// The furthest that a limit is looked for.
const FURTHEST: f64 = 365.0;

/// The peak of one day in UTC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Day {
    /// Days since 1970.
    pub(super) number: f64,
    /// Highest hourly rate, in requests a second.
    pub(super) peak: f64,
}

/// A line through daily peaks, and how far off they are of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Trend {
    /// Change of the peak in a day, in requests a second.
    pub(crate) slope: f64,
    /// Lower end of the slope's 90 % interval.
    pub(crate) slope_low: f64,
    /// Upper end.
    pub(crate) slope_high: f64,
    /// The line at `middle`.
    level: f64,
    /// Days since 1970, around which the slope turns.
    middle: f64,
    /// What a peak is above the line on the weekday on which that is most; 0 with less than two weeks.
    weekday: f64,
    /// Distance from the line within which 90 % of the peaks are, weekdays taken out.
    spread: f64,
}

/// The highest rate of each day that has nearly all of its hours; `hourly`: seconds since 1970 and rate.
pub(super) fn daily_peaks(hourly: &[(f64, f64)]) -> Vec<Day> {
    let mut days: Vec<(Day, usize)> = Vec::new();
    for (at, rate) in hourly {
        // A rate over an hour belongs to the hour that it ends.
        let number = ((at - 1.0) / DAY_SECONDS).floor();
        match days.last_mut() {
            Some((day, hours)) if day.number == number => {
                day.peak = day.peak.max(*rate);
                *hours += 1;
            }
            _ => days.push((Day { number, peak: *rate }, 1)),
        }
    }
    days.retain(|(_, hours)| *hours >= MIN_HOURS);
    days.into_iter().map(|(day, _)| day).collect()
}

/// The Theil–Sen line: the median of the slopes between all pairs (Theil 1950, Sen 1968), which a few odd days do not
/// move; its interval is Sen's, from the variance of Kendall's statistic. Nothing of fewer than three days.
pub(super) fn trend(days: &[Day]) -> Option<Trend> {
    if days.len() < 3 {
        return None;
    }
    let season = weekdays(days);
    let peak = |day: &Day| day.peak - season[weekday(day)];
    let mut slopes: Vec<f64> = Vec::with_capacity(days.len() * (days.len() - 1) / 2);
    for (index, a) in days.iter().enumerate() {
        slopes.extend(
            days[index + 1..]
                .iter()
                .map(|b| (peak(b) - peak(a)) / (b.number - a.number)),
        );
    }
    let slope = median(&mut slopes)?;
    let (n, pairs) = (days.len() as f64, slopes.len() as f64);
    let reach = Z * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let rank = |rank: f64| slopes[(rank.round().max(0.0) as usize).min(slopes.len() - 1)];
    let middle = median(&mut days.iter().map(|day| day.number).collect::<Vec<_>>())?;
    let mut levels: Vec<f64> = days
        .iter()
        .map(|day| peak(day) - slope * (day.number - middle))
        .collect();
    let level = median(&mut levels)?;
    let mut off: Vec<f64> = levels.iter().map(|value| (value - level).abs()).collect();
    off.sort_by(f64::total_cmp);
    Some(Trend {
        slope,
        slope_low: rank((pairs - reach) / 2.0 - 1.0),
        slope_high: rank(f64::midpoint(pairs, reach)),
        level,
        middle,
        weekday: season.iter().copied().fold(0.0, f64::max),
        spread: off[((off.len() as f64 * 0.9).ceil() as usize).clamp(1, off.len()) - 1],
    })
}

/// 0 to 6.
fn weekday(day: &Day) -> usize {
    day.number.rem_euclid(7.0) as usize
}

/// How much the peaks of each weekday differ from the median of the seven days around them; all 0 with less than two
/// weeks.
fn weekdays(days: &[Day]) -> [f64; 7] {
    let mut season = [0.0; 7];
    if days.len() < 14 {
        return season;
    }
    let mut differences: [Vec<f64>; 7] = Default::default();
    for window in days.windows(7) {
        if window[6].number - window[0].number != 6.0 {
            continue;
        }
        let mut peaks: Vec<f64> = window.iter().map(|day| day.peak).collect();
        if let Some(around) = median(&mut peaks) {
            differences[weekday(&window[3])].push(window[3].peak - around);
        }
    }
    for (season, differences) in season.iter_mut().zip(&mut differences) {
        *season = median(differences).unwrap_or(0.0);
    }
    season
}

/// Sorts; the mean of the two in the middle of an even number.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

impl Trend {
    /// The peak of a week's busiest weekday around day `number`, with a probability of 90 % between these.
    pub(super) fn between(&self, number: f64) -> (f64, f64) {
        let at = |slope: f64| self.level + slope * (number - self.middle) + self.weekday;
        let low = at(self.slope_low) - self.spread;
        (low.max(0.0), (at(self.slope_high) + self.spread).max(0.0))
    }

    /// Days from day `last` until the peak is `limit`: by the slope, and by the upper end of its interval with the spread.
    /// None: not in a year.
    pub(super) fn until(&self, limit: f64, last: f64) -> (Option<f64>, Option<f64>) {
        let days = |slope: f64, above: f64| {
            let now = self.level + slope * (last - self.middle) + self.weekday + above;
            if now >= limit {
                return Some(0.0);
            }
            let days = (limit - now) / slope;
            (slope > 0.0 && days <= FURTHEST).then_some(days)
        };
        (days(self.slope, 0.0), days(self.slope_high, self.spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(peaks: &[f64]) -> Vec<Day> {
        let numbered = peaks.iter().enumerate();
        numbered
            .map(|(number, peak)| Day {
                number: number as f64,
                peak: *peak,
            })
            .collect()
    }

    #[test]
    fn a_line_is_found_and_odd_days_do_not_move_it() {
        let mut peaks: Vec<f64> = (0..13).map(|day| 10.0 + 2.0 * f64::from(day)).collect();
        peaks[4] = 500.0;
        peaks[9] = 0.0;
        let trend = trend(&days(&peaks)).expect("a trend");
        assert!((trend.slope - 2.0).abs() < 1e-9, "{trend:?}");
        assert!(trend.slope_low <= 2.0 && trend.slope_high >= 2.0, "{trend:?}");
    }

    /// Sen's interval: its coverage over lines with normal noise.
    #[test]
    fn the_interval_of_the_slope_covers_as_it_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let runs = 2_000;
        let covered = (0..runs)
            .filter(|_| {
                let peaks: Vec<f64> = (0..13)
                    .map(|day| 50.0 + 0.5 * f64::from(day) + normal())
                    .collect();
                let trend = trend(&days(&peaks)).expect("a trend");
                trend.slope_low <= 0.5 && 0.5 <= trend.slope_high
            })
            .count();
        // 90 % ± 4 standard errors, and it is conservative with few points.
        assert!((1_746..=1_960).contains(&covered), "{covered} of {runs}");
    }

    #[test]
    fn a_quiet_weekend_is_no_trend() {
        let peaks: Vec<f64> = (0..28)
            .map(|day| if day % 7 >= 5 { 20.0 } else { 100.0 })
            .collect();
        let trend = trend(&days(&peaks)).expect("a trend");
        assert!(trend.slope.abs() < 1e-9, "{trend:?}");
        let (low, high) = trend.between(50.0);
        assert!(low > 90.0 && high < 110.0, "the busiest weekday: {low} to {high}");
    }

    #[test]
    fn days_with_hours_missing_are_left_out() {
        let hour = |day: u32, hour: u32| f64::from(day * 86_400 + hour * 3_600);
        let mut hourly: Vec<(f64, f64)> = (1..=24).map(|h| (hour(0, h), f64::from(h))).collect();
        hourly.extend((1..=10).map(|h| (hour(1, h), 1_000.0)));
        let peaks = daily_peaks(&hourly);
        assert_eq!(
            peaks,
            [Day {
                number: 0.0,
                peak: 24.0
            }]
        );
        assert!(trend(&peaks).is_none());
    }

    #[test]
    fn a_limit_that_is_never_reached_has_no_day() {
        let falling: Vec<f64> = (0..10).map(|day| 100.0 - f64::from(day)).collect();
        let trend = trend(&days(&falling)).expect("a trend");
        assert_eq!(trend.until(200.0, 9.0), (None, None));
        assert_eq!(trend.until(50.0, 9.0).0, Some(0.0));
        assert_eq!(trend.between(1_000.0), (0.0, 0.0));
    }
}

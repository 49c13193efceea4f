//! How long a task may take: `--timeout 30`, `1.5h`, or `200%` of the median
//! of those that are done.

use std::time::Duration;

/// Fewest tasks whose median says something.
pub const MEDIAN_OF_AT_LEAST: usize = 3;

/// A bound of a task's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// This long.
    For(Duration),
    /// This many percent of the median of the tasks that succeeded.
    OfMedian(u32),
}

/// Longest that one may wait, in seconds: a year.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;
const MAX_PERCENT: u32 = 1_000_000;

/// Reads `30`, `1.5h`, `1d2h`, `200%`.
///
/// # Errors
/// Which forms there are.
pub fn parse(text: &str) -> Result<Patience, String> {
    let wrong = || format!("`{text}` is no time limit; write seconds, 1.5h, 1d2h or a percentage like 200%");
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| (1..=MAX_PERCENT).contains(percent));
        return percent.map(Patience::OfMedian).ok_or_else(wrong);
    }
    let seconds = seconds(text).filter(|seconds| *seconds > 0.0 && *seconds <= MAX_SECONDS);
    seconds.map(Duration::from_secs_f64).map(Patience::For).ok_or_else(wrong)
}

fn seconds(text: &str) -> Option<f64> {
    let (mut sum, mut number, mut open) = (0.0, String::new(), false);
    for character in text.chars() {
        let unit = match character {
            '0'..='9' | '.' => {
                number.push(character);
                open = true;
                continue;
            }
            's' => 1.0,
            'm' => 60.0,
            'h' => 3_600.0,
            'd' => 86_400.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * unit;
        number.clear();
        open = false;
    }
    if open {
        sum += number.parse::<f64>().ok()?;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Patience, parse};

    #[test]
    fn seconds_units_and_percentages_are_read() {
        for (text, ms) in [("1", 1_000), ("0.5", 500), ("1.5s", 1_500), ("2m", 120_000), ("1d2h", 93_600_000)]
        {
            assert_eq!(parse(text), Ok(Patience::For(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!(parse("200%"), Ok(Patience::OfMedian(200)));
        for bad in ["", "x", "0", "1x", "%", "-1", "0%", "1.2.3", "1e9", "99999d", "h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

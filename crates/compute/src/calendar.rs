//! When a schedule is due: expressions of cron, in a time zone. Pure. The
//! master asks; what it finds goes into the log, so that replicas need not
//! agree about the rules of time zones.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Fields of an expression: minute, hour, day of month, month, day of week,
/// seconds before them if there are six.
const FIELDS: std::ops::RangeInclusive<usize> = 5..=6;

fn read(text: &str) -> Option<Cron> {
    let is_known = text.starts_with('@') || FIELDS.contains(&text.split_whitespace().count());
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    is_known.then(|| parser.parse(text).ok())?
}

/// Whether this is an expression, and not one of a day that does not come, in a
/// time zone that there is.
///
/// # Errors
/// What to write.
pub fn check(text: &str, zone: &str) -> Result<(), String> {
    let forms =
        "write minute, hour, day of month, month and day of week, like \"*/5 * * * *\" or \"30 4 * * MON\"";
    if Tz::from_str(zone).is_err() {
        return Err(format!("`{zone}` is no time zone: write UTC or one like Europe/Berlin"));
    }
    read(text).ok_or_else(|| format!("`{text}` is no schedule; {forms}"))?;
    next(text, zone, 0).map(drop).ok_or_else(|| format!("`{text}` is never due; {forms}"))
}

/// The first time after this one, both in milliseconds since the epoch.
#[must_use]
pub fn next(text: &str, zone: &str, after_ms: u64) -> Option<u64> {
    let after: DateTime<Utc> = DateTime::from_timestamp_millis(i64::try_from(after_ms).ok()?)?;
    let after = after.with_timezone(&Tz::from_str(zone).ok()?);
    let next = read(text)?.find_next_occurrence(&after, false).ok()?;
    u64::try_from(next.timestamp_millis()).ok()
}

/// A moment for people, in UTC.
#[must_use]
pub fn utc(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    moment.map_or_else(|| ms.to_string(), |moment| moment.naive_utc().to_string().chars().take(16).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;

    #[test]
    fn a_schedule_is_due_after_now_and_never_at_it() {
        let next = |text, after| next(text, "UTC", after);
        assert_eq!(next("*/5 * * * *", 0), Some(5 * MINUTE));
        assert_eq!(next("*/5 * * * *", 5 * MINUTE), Some(10 * MINUTE));
        assert_eq!(next("*/5 * * * *", 5 * MINUTE - 1), Some(5 * MINUTE));
        assert_eq!(next("*/2 * * * * *", 1), Some(2_000));
        // The first of January 1970 was a Thursday.
        assert_eq!(next("30 4 * * FRI", 0), Some(28 * HOUR + 30 * MINUTE));
        assert_eq!(next("@daily", 1), Some(24 * HOUR));
        assert_eq!(utc(28 * HOUR + 30 * MINUTE + 59_000), "1970-01-02 04:30");
    }

    #[test]
    fn hours_are_those_of_the_time_zone() {
        // In Berlin summer time of 2025 began on 30 March at one o'clock UTC.
        let day = 1_743_202_800_000;
        assert_eq!(utc(day), "2025-03-28 23:00");
        let mut at = day;
        let mut times = Vec::new();
        for _ in 0..3 {
            at = next("30 2 * * *", "Europe/Berlin", at).expect("due");
            times.push(utc(at));
        }
        // There is no half past two on that day: it is made up for at once.
        assert_eq!(times, ["2025-03-29 01:30", "2025-03-30 01:00", "2025-03-31 00:30"]);
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for bad in ["", "* * * *", "61 * * * *", "* * * * * * *", "x * * * *", "0 0 30 2 *"] {
            let said = check(bad, "UTC").expect_err(bad);
            assert!(said.contains("*/5 * * * *"), "{said}");
        }
        assert_eq!(check("*/5 * * * *", "Europe/Berlin"), Ok(()));
        assert!(check("*/5 * * * *", "Berlin").expect_err("no zone").contains("no time zone"));
    }
}

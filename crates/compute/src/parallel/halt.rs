//! When to stop early (`--halt now,fail=1`), and the exit code: how many tasks
//! failed, at most [`MANY`].

/// The exit code for more than a hundred failed tasks.
pub const MANY: u8 = 101;

/// What `--halt` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// Run everything.
    #[default]
    Never,
    /// Stop when this happened.
    When {
        /// Kill what runs, too.
        now: bool,
        /// What is counted.
        on: On,
        /// How many of them.
        threshold: Threshold,
    },
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Tasks that failed.
    Fail,
    /// Tasks that succeeded.
    Success,
    /// Both.
    Done,
}

/// How many are enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// So many.
    Count(u64),
    /// So many percent of all tasks.
    Percent(u32),
}

/// Reads what follows `--halt`.
///
/// # Errors
/// Which forms there are.
pub fn parse(text: &str) -> Result<Rule, String> {
    let wrong = |what: &str| {
        format!(
            "`{text}`: {what}; write never, or soon or now, then fail, success or done, as now,fail=1 or soon,fail=30%"
        )
    };
    // Short forms of old, which parallel still takes.
    let text_or_old = match text {
        "0" => "never",
        "1" => "soon,fail=1",
        "2" => "now,fail=1",
        other => other,
    };
    if text_or_old == "never" {
        return Ok(Rule::Never);
    }
    if text_or_old.ends_with('%') && !text_or_old.contains('=') {
        return Ok(Rule::When {
            now: false,
            on: On::Fail,
            threshold: threshold(text_or_old).ok_or_else(|| wrong("no percentage"))?,
        });
    }
    let (when, what) =
        text_or_old.split_once(',').ok_or_else(|| wrong("what is to be counted is missing"))?;
    let now = match when {
        "now" => true,
        "soon" => false,
        _ => return Err(wrong("neither never, soon nor now")),
    };
    let (on, enough) = what.split_once('=').ok_or_else(|| wrong("how many is missing"))?;
    let on = match on {
        "fail" => On::Fail,
        "success" => On::Success,
        "done" => On::Done,
        _ => return Err(wrong("neither fail, success nor done")),
    };
    let threshold = threshold(enough).ok_or_else(|| wrong("neither a number from 1 nor 1% to 100%"))?;
    Ok(Rule::When { now, on, threshold })
}

fn threshold(text: &str) -> Option<Threshold> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent));
            percent.map(Threshold::Percent)
        }
        None => text.parse().ok().filter(|count| *count > 0).map(Threshold::Count),
    }
}

impl Threshold {
    /// How many of `total` tasks are enough.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (total * u64::from(percent)).div_ceil(100).max(1),
        }
    }

    /// Exactly one, not by rounding: then the exit code is the task's own.
    fn is_one(self, total: u64) -> bool {
        match self {
            Self::Count(count) => count == 1,
            Self::Percent(percent) => total * u64::from(percent) == 100,
        }
    }
}

/// How a task ended, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; -1 if it was killed for its time.
    pub exit: i32,
    /// The signal that ended it, or 0.
    pub signal: u8,
}

impl Ended {
    /// Whether it did what it was to do.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.exit == 0 && self.signal == 0
    }

    /// As a shell tells it.
    fn code(self) -> u8 {
        if self.signal > 0 {
            128_u8.saturating_add(self.signal)
        } else {
            u8::try_from(self.exit).unwrap_or(255)
        }
    }
}

/// Counts tasks and knows when it is enough.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    rule: Rule,
    failed: u64,
    succeeded: u64,
    halted_by: Option<Ended>,
}

impl Tally {
    /// Nothing has ended yet.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self { rule, ..Self::default() }
    }

    /// A task of `total` has ended. `true`: this one was the last that counts.
    pub fn ended(&mut self, ended: Ended, total: u64) -> bool {
        let success = ended.is_success();
        if success {
            self.succeeded += 1;
        } else {
            self.failed += 1;
        }
        let Rule::When { on, threshold, .. } = self.rule else { return false };
        let (count, counts) = match on {
            On::Fail => (self.failed, !success),
            On::Success => (self.succeeded, success),
            On::Done => (self.failed + self.succeeded, true),
        };
        let halts = self.halted_by.is_none() && counts && count >= threshold.of(total);
        if halts {
            self.halted_by = Some(ended);
        }
        halts
    }

    /// How many failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// How many have ended.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.failed + self.succeeded
    }

    /// The exit code after `total` tasks.
    #[must_use]
    pub fn exit_code(&self, total: u64) -> u8 {
        let count = u8::try_from(self.failed).map_or(MANY, |failed| failed.min(MANY));
        let Rule::When { on, threshold, .. } = self.rule else { return count };
        match (self.halted_by, threshold) {
            (Some(_), _) if on == On::Success => 0,
            (Some(ended), threshold) if threshold.is_one(total) => ended.code(),
            (_, Threshold::Percent(_)) => {
                u8::try_from((self.failed * 100).div_ceil(total.max(1))).unwrap_or(100)
            }
            _ => count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, MANY, Tally, parse};

    /// Runs `codes` one after another: how many ran, and the exit code.
    fn run(rule: &str, codes: &[i32]) -> (usize, u8) {
        let mut tally = Tally::new(parse(rule).expect(rule));
        let total = codes.len() as u64;
        let mut ran = 0;
        for code in codes {
            ran += 1;
            if tally.ended(Ended { exit: *code, signal: 0 }, total) {
                break;
            }
        }
        (ran, tally.exit_code(total))
    }

    /// Each line was seen of parallel 20221122 with `-j1`.
    #[test]
    fn stops_where_parallel_stops_with_its_code() {
        let six = [0, 3, 0, 5, 0, 7];
        let ten = [3, 0, 0, 5, 0, 7, 0, 0, 0, 0];
        let table: &[(&str, &[i32], usize, u8)] = &[
            ("now,fail=1", &six, 2, 3),
            ("soon,fail=1", &six, 2, 3),
            ("now,fail=2", &six, 4, 2),
            ("now,success=1", &six, 1, 0),
            ("now,done=1", &six, 1, 0),
            ("soon,done=2", &six, 2, 1),
            ("now,fail=50%", &six, 6, 50),
            ("soon,fail=30%", &six, 4, 34),
            ("never", &six, 6, 3),
            ("0", &six, 6, 3),
            ("1", &six, 2, 3),
            ("2", &six, 2, 3),
            ("now,fail=20%", &ten, 4, 20),
            ("now,fail=10%", &ten, 1, 3),
            ("soon,fail=1%", &ten, 1, 10),
            ("now,success=20%", &ten, 3, 0),
            ("now,done=20%", &ten, 2, 10),
            ("now,success=1", &[3, 0, 4], 2, 0),
            ("now,success=5", &[3, 0, 4], 3, 2),
            ("now,done=2", &[3, 4, 4], 2, 2),
            ("now,fail=5", &[3, 4, 4], 3, 3),
            ("now,fail=40%", &[9, 0, 5], 3, 67),
            ("soon,fail=90%", &[9, 9, 9, 9, 0], 5, 80),
            ("soon,success=90%", &[1, 0, 200], 3, 67),
            ("now,done=50%", &[1, 2, 3, 0], 2, 50),
            ("now,done=1", &[4, 5], 1, 4),
            ("30%", &[0, 1, 1, 0], 3, 50),
        ];
        for (rule, codes, ran, code) in table {
            assert_eq!(run(rule, codes), (*ran, *code), "--halt {rule} {codes:?}");
        }
    }

    #[test]
    fn failures_are_counted_up_to_a_hundred() {
        for (failed, code) in [(0, 0), (1, 1), (100, 100), (101, MANY), (400, MANY)] {
            assert_eq!(run("never", &vec![1; failed]).1, code, "{failed}");
        }
        let mut tally = Tally::new(parse("now,fail=1").expect("a rule"));
        assert!(tally.ended(Ended { exit: 0, signal: 9 }, 3));
        assert_eq!(tally.exit_code(3), 137);
    }

    #[test]
    fn what_parallel_refuses_is_refused() {
        for bad in ["bad", "now", "now,fail", "fail=1", "now,fail=x", "now,fail=101%", "now,fail=0", "", "%"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

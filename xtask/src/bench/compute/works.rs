//! What is asked of all systems alike, and what it took.

use serde_json::Value;

use super::systems::System;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Idle,
    Empty,
    Trip,
    Wait10,
    Wait100,
    Large,
    Processes,
    Submit,
    Slow,
    Killed,
}

impl Work {
    /// In the order in which they are done: what kills a worker comes last.
    pub(crate) const ALL: [Self; 10] = [
        Self::Idle,
        Self::Empty,
        Self::Trip,
        Self::Wait10,
        Self::Wait100,
        Self::Large,
        Self::Processes,
        Self::Submit,
        Self::Slow,
        Self::Killed,
    ];

    /// Its name for `--only` and for the load program.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Empty => "empty",
            Self::Trip => "trip",
            Self::Wait10 => "10ms",
            Self::Wait100 => "100ms",
            Self::Large => "large",
            Self::Processes => "processes",
            Self::Submit => "submit",
            Self::Slow => "slow",
            Self::Killed => "killed",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Idle => "Nothing to do: memory without the client, with all warm interpreters",
            Self::Empty => "10,000 empty Python functions",
            Self::Trip => "One empty Python function after the other, 500 times",
            Self::Wait10 => "1,000 functions that wait 10 ms",
            Self::Wait100 => "1,000 functions that wait 100 ms",
            Self::Large => "500 functions with an argument of 1 MB each",
            Self::Processes => "2,000 processes (`true`)",
            Self::Submit => "Durable submission of 200,000 tasks in ranges",
            Self::Slow => "600 functions that wait 50 ms, one worker of three six times slower",
            Self::Killed => "600 functions that wait 50 ms, one worker of three killed half way",
        }
    }

    /// How many tasks it has, where that is not the load program's to say.
    pub(super) fn tasks(self, part: Part) -> u64 {
        if self == Self::Processes { 2_000 / part.divisor() } else { 1 }
    }

    /// Who does it.
    pub(super) fn of(self, system: System) -> bool {
        match self {
            Self::Processes => System::COMMANDS.contains(&system),
            // The others have nothing that is durable when it is submitted.
            Self::Submit => system == System::Trine,
            _ => System::PYTHON.contains(&system),
        }
    }
}

/// How much of each work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Fifth,
}

impl Part {
    pub(super) fn divisor(self) -> u64 {
        match self {
            Self::Whole => 1,
            Self::Fifth => 5,
        }
    }
}

/// What one system did with one work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figure {
    /// Seconds.
    pub(crate) wall: f64,
    pub(crate) tasks: u64,
    /// Results that did not come.
    pub(crate) missing: u64,
    /// Of single tasks, in milliseconds, where they were timed.
    pub(crate) trip: Option<(f64, f64)>,
    /// Processor milliseconds of all.
    pub(crate) spent_ms: u64,
    pub(crate) peak_mb: f64,
    /// Of one node of Trine, without interpreters; where it was looked at.
    pub(crate) node_mb: Option<f64>,
}

impl Figure {
    /// What the load program told.
    pub(super) fn told(told: &Value) -> Option<Self> {
        Some(Self {
            wall: told["wall"].as_f64()?,
            tasks: told["tasks"].as_u64()?,
            missing: told["missing"].as_u64()?,
            trip: told["median_ms"].as_f64().zip(told["p99_ms"].as_f64()),
            ..Self::default()
        })
    }

    pub(super) fn cost(&mut self, spent_ms: u64, peak_mb: f64) {
        (self.spent_ms, self.peak_mb) = (spent_ms, peak_mb);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    pub(crate) fn rate(&self) -> f64 {
        (self.tasks - self.missing) as f64 / self.wall
    }

    /// Processor milliseconds of one task.
    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.spent_ms as f64 / self.tasks as f64
    }
}

//! `cargo xtask accept ground`: what the ground floor promises, one line each:
//! PASS, FAIL or NOT RUN, with the figure. `cargo xtask accept peers`: the same
//! for what the mesh promises, in [`peers`]; `cargo xtask accept compute`: for
//! what jobs promise, in [`compute`].
//!
//! | file | promises |
//! |---|---|
//! | [`clone`] | the README's two commands from a clean clone |
//! | [`outside`] | unmodified clients, a traced majority, the simulator, peers' certificates, fuzzed parsers |
//! | [`survival`] | kill, pause and cut under load; full CPU load |
//! | [`speed`] | side by side with etcd and Redis |
//! | [`cost`] | idle cost, time to start |
//! | [`input`] | bad input on every door |
//! | [`startup`] | bad configuration, tickets and data directories |

use std::fmt;

use crate::command::Trouble;
use crate::parts::Count;

mod clone;
mod compute;
mod cost;
mod input;
mod outside;
mod peers;
mod speed;
mod startup;
mod survival;

/// How a promise stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Pass,
    Fail,
    NotRun,
}

/// One promise and its figure.
pub(crate) struct Line {
    standing: Standing,
    name: String,
    figure: String,
    /// Whether it holds depends on how busy the machine is: a figure for
    /// `accept`, and nothing that a test may fail for.
    timed: bool,
}

impl Line {
    fn of(holds: bool, name: &str, figure: impl Into<String>) -> Self {
        let standing = if holds { Standing::Pass } else { Standing::Fail };
        Self { standing, name: name.to_owned(), figure: figure.into(), timed: false }
    }

    /// A promise about time, on a machine that does nothing else.
    fn timed(holds: bool, name: &str, figure: impl Into<String>) -> Self {
        Self { timed: true, ..Self::of(holds, name, figure) }
    }

    fn not_run(name: &str, why: impl Into<String>) -> Self {
        Self { standing: Standing::NotRun, name: name.to_owned(), figure: why.into(), timed: false }
    }

    /// As a check of a test run: what was not run has failed.
    fn as_test(&self) -> Count {
        if self.timed {
            return Count {
                report: format!("(not judged) {}: {}", self.name, self.figure),
                ..Count::default()
            };
        }
        Count::one(self.standing == Standing::Pass, self.to_string())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.standing {
            Standing::Pass => "PASS   ",
            Standing::Fail => "FAIL   ",
            Standing::NotRun => "NOT RUN",
        };
        write!(f, "{word} {}: {}", self.name, self.figure)
    }
}

/// Promises that are shown by one experiment.
struct Experiment {
    name: &'static str,
    /// Takes more than a few minutes: only with `--long`.
    long: bool,
    run: fn() -> Result<Vec<Line>, Trouble>,
}

const GROUND: &[Experiment] = &[
    Experiment { name: "demo", long: false, run: clone::demo },
    Experiment { name: "clean clone", long: true, run: clone::from_a_clean_clone },
    Experiment { name: "clients", long: false, run: outside::clients },
    Experiment { name: "SIGKILL", long: false, run: survival::kill },
    Experiment { name: "SIGSTOP", long: false, run: survival::pause },
    Experiment { name: "cut link", long: false, run: survival::cut },
    Experiment { name: "trace", long: false, run: outside::trace },
    Experiment { name: "simulator", long: false, run: outside::simulator },
    Experiment { name: "planted bugs", long: true, run: outside::planted },
    Experiment { name: "full CPU load", long: true, run: survival::full_load },
    Experiment { name: "speed", long: false, run: speed::thresholds },
    Experiment { name: "idle cost", long: false, run: cost::idle },
    Experiment { name: "time to start", long: false, run: cost::start },
    Experiment { name: "bad input", long: false, run: input::doors },
    Experiment { name: "bad start", long: false, run: startup::refusals },
    Experiment { name: "certificates", long: false, run: outside::certificates },
    Experiment { name: "fuzzed parsers", long: false, run: outside::fuzzed },
];

/// What promises can be asked for.
pub(crate) const TOPICS: [&str; 3] = ["ground", "peers", "compute"];

fn experiments(topic: &str) -> Vec<&'static Experiment> {
    match topic {
        "peers" => peers::PEERS.iter().collect(),
        "compute" => compute::COMPUTE.into_iter().flatten().collect(),
        _ => GROUND.iter().collect(),
    }
}

/// Runs the experiments of a topic; true when no line failed.
pub(crate) fn accept(topic: &str, only: Option<&str>, long: bool) -> bool {
    let mut counts = [0, 0, 0];
    for experiment in experiments(topic) {
        if only.is_some_and(|word| !experiment.name.contains(word)) {
            continue;
        }
        let lines = if experiment.long && !long {
            vec![Line::not_run(experiment.name, "takes long: asked for with --long")]
        } else {
            (experiment.run)()
                .unwrap_or_else(|trouble| vec![Line::of(false, experiment.name, trouble.to_string())])
        };
        for line in lines {
            println!("{line}");
            counts[line.standing as usize] += 1;
        }
    }
    let [pass, fail, not_run] = counts;
    println!("{pass} PASS, {fail} FAIL, {not_run} NOT RUN");
    fail == 0
}

/// What many clients, slow ones and strangers may do to nodes, in its short
/// form and without its times: a part of the tests.
pub(crate) fn pressure() -> Count {
    let mut total = Count::default();
    for experiment in peers::PRESSURE {
        match (experiment.run)() {
            Ok(lines) => lines.iter().for_each(|line| total.add(&line.as_test())),
            Err(trouble) => total.add(&Count::one(false, format!("{}: {trouble}", experiment.name))),
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn a_test_judges_everything_but_times() {
        let judged = |line: &Line| (line.as_test().passed, line.as_test().failed);
        assert_eq!(judged(&Line::of(true, "order", "")), (1, 0));
        assert_eq!(judged(&Line::not_run("order", "no room")), (0, 1));
        assert_eq!(judged(&Line::timed(false, "speed", "2 s")), (0, 0));
    }

    #[test]
    fn a_line_says_how_a_promise_stands() {
        assert_eq!(Line::of(true, "start", "0.3 s").to_string(), "PASS    start: 0.3 s");
        assert_eq!(Line::not_run("clone", "why").to_string(), "NOT RUN clone: why");
    }
}

//! The simulator's command line.
//!
//! ```text
//! cargo run -p sim -- --seeds 200                     200 seeds over all scenarios
//! cargo run -p sim -- --scenario register --seed 17   one seed again, exactly
//! cargo run -p sim -- --seed 17 … --print             with every event
//! cargo run -p sim -- planted                         are all planted bugs caught?
//! cargo run --release -p sim -- members --members 1000    how fast is a crash known?
//! cargo run --release -p sim -- broadcast --members 10000  over a partial view
//! cargo run --release -p sim -- schedule --tasks 1000000   jobs, stragglers, crashes
//! ```
//!
//! Exit code 0 only if no seed failed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim::fleet::{Score, run_all};
use sim::golden;
use sim::job::{Job, Report};
use sim::kind::Kind;
use sim::members;
use sim::overlay;
use sim::planted;
use sim::scenario::Scenario;
use sim::schedule;
use tokio::time::Instant;

/// How many failed seeds are shown before the run gives up.
const SHOWN_FAILURES: u64 = 5;

/// Runs whole clusters from seeds and says whether what was promised held.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Options {
    /// How many seeds to run; each runs one scenario, in turn.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run only this seed (with the scenario that it has in a longer run,
    /// unless --scenario is given).
    #[arg(long)]
    seed: Option<u64>,
    /// Run only this scenario: register, counter, failover, membership,
    /// messages or jobs.
    #[arg(long)]
    scenario: Option<Scenario>,
    /// What runs as a node: whole nodes, or replication alone.
    #[arg(long, default_value_t = Kind::DEFAULT)]
    nodes: Kind,
    /// Switch this planted bug on (needs a build with `--cfg trine_planted`).
    #[arg(long)]
    planted: Option<String>,
    /// How many seeds run at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print every event, and what nodes log (see `RUST_LOG`), to standard error.
    #[arg(long)]
    print: bool,
    /// Go on after failures.
    #[arg(long)]
    keep_going: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Check that every planted bug is caught and that the same seeds pass
    /// without it; `--planted` names one of them. Builds itself with
    /// `--cfg trine_planted` first.
    Planted {
        /// Seeds within which a bug must be caught.
        #[arg(long, default_value_t = 50)]
        within: u64,
    },
    /// List the planted bugs.
    Bugs,
    /// Failure detection in a crowd: time until all know of a crash, false
    /// positives, load; beside plain SWIM. Build with `--release`.
    Members(members::figures::Options),
    /// Broadcast over a partial view: redundancy, and repair after half of the
    /// members crash. Build with `--release`.
    Broadcast(overlay::figures::Options),
    /// The scheduler of jobs with ten thousand workers: makespan, response
    /// times and duplicate work, beside simpler policies. Build with
    /// `--release`.
    Schedule(schedule::figures::Options),
    /// Write the logs of a stopped node as golden logs; see
    /// `sim/golden/record.sh`.
    Golden {
        /// The node's data folder.
        #[arg(long)]
        data: PathBuf,
        /// The folder to write to.
        #[arg(long)]
        to: PathBuf,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.print {
        sim::trace::print_logs();
    }
    match options.command {
        Some(Command::Planted { within }) => {
            planted::check_all(options.planted.as_deref(), within, options.threads)
        }
        Some(Command::Bugs) => {
            for bug in planted::BUGS {
                println!("{:<24} {:<12} {:<6} {}", bug.name, bug.scenario.name(), bug.kind.name(), bug.about);
            }
            ExitCode::SUCCESS
        }
        Some(Command::Members(options)) => code(members::figures::run(&options)),
        Some(Command::Schedule(options)) => code(schedule::figures::run(&options)),
        Some(Command::Broadcast(options)) => {
            overlay::figures::run(&options);
            ExitCode::SUCCESS
        }
        Some(Command::Golden { data, to }) => {
            code(golden::record(&data, &to).map_err(|error| error.to_string()))
        }
        None => run_seeds(&options),
    }
}

fn code(result: Result<(), String>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("{error}");
    ExitCode::from(2)
}

fn run_seeds(options: &Options) -> ExitCode {
    if let Some(name) = &options.planted
        && let Err(error) = planted::activate(name)
    {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let (from, count) = options.seed.map_or((options.from, options.seeds), |seed| (seed, 1));
    let jobs: Vec<Job> = (from..from + count)
        .map(|seed| Job {
            seed,
            scenario: options.scenario.unwrap_or_else(|| Scenario::of_seed(seed)),
            print: options.print,
        })
        .collect();
    let started = Instant::now();
    let mut score = Score::default();
    run_all(
        &jobs,
        options.threads,
        |job| options.nodes.run(job),
        |report| {
            score.add(report);
            if report.result.is_err() {
                show_failure(options, report);
            } else if options.seed.is_some() {
                println!(
                    "seed {} passed; trace {:016x}, {} events",
                    report.seed, report.trace_hash, report.events
                );
            }
            options.keep_going || score.failed() < SHOWN_FAILURES
        },
    );
    for line in score.lines() {
        println!("{line}");
    }
    let seconds = started.elapsed().as_secs().max(1);
    eprintln!("{} seeds per minute on {} threads", jobs.len() as u64 * 60 / seconds, options.threads);
    if score.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show_failure(options: &Options, report: &Report) {
    let Err(failure) = &report.result else { return };
    println!("FAILED  scenario {}, seed {}: {failure}", report.scenario, report.seed);
    for line in &report.recent {
        println!("    {line}");
    }
    let planted = options.planted.as_ref().map_or(String::new(), |name| format!(" --planted {name}"));
    let flags = if options.planted.is_some() {
        "RUSTFLAGS='--cfg tokio_unstable --cfg trine_planted' CARGO_TARGET_DIR=target/planted "
    } else {
        ""
    };
    println!(
        "    trace {:016x}; replay with:\n    {flags}cargo run -p sim -- --nodes {} --scenario {} --seed {}{planted} --print",
        report.trace_hash,
        options.nodes.of_seed(report.seed),
        report.scenario,
        report.seed
    );
}

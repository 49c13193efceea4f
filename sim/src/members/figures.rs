//! `sim members`: runs the trials and prints what they showed.

use std::time::Duration;

use clap::Args;

use super::crowd::{Blocked, Setting};
use super::trial::{Crashes, Protocol, Slowness, Wrongs, crashes, slow_members};

/// What to simulate.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many members.
    #[arg(long, default_value_t = 50)]
    members: usize,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Crashes per seed, one after the other.
    #[arg(long, default_value_t = 5)]
    crashes: usize,
    /// Share of messages that are lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Lifeguard's workload instead of crashes: slow members, how long they
    /// are blocked and run in turn; may be repeated. `grid` stands for 1, 8
    /// and 32 members, 0.5 to 32 s blocked, 1 to 1024 ms between.
    #[arg(long, value_name = "C:BLOCKED_MS:BETWEEN_MS|grid")]
    slow: Vec<String>,
    /// Length of a run of that workload, in seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// In that workload, stop whole members instead of their messages only.
    #[arg(long)]
    stopped: bool,
    /// Leave the comparison with plain SWIM out.
    #[arg(long)]
    only_product: bool,
}

/// Runs the trials; the result says whether the options made sense.
///
/// # Errors
/// What was wrong with an option.
pub fn run(options: &Options) -> Result<(), String> {
    if options.members < 2 || options.seeds == 0 {
        return Err("at least two members and one seed".to_owned());
    }
    if options.slow.is_empty() && options.crashes >= options.members {
        return Err(
            "somebody must be left to know of a crash: give fewer --crashes than --members".to_owned()
        );
    }
    let protocols = if options.only_product { &Protocol::ALL[..1] } else { &Protocol::ALL[..] };
    if options.slow.is_empty() {
        print_crashes(options, protocols);
        return Ok(());
    }
    let mut workloads = Vec::new();
    for text in &options.slow {
        workloads.extend(slownesses(text)?);
    }
    print_slow(options, protocols, &workloads);
    Ok(())
}

fn setting(options: &Options, protocol: Protocol, seed: u64) -> Setting {
    let Options { members, loss, .. } = *options;
    let blocked = if options.stopped { Blocked::Process } else { Blocked::Messages };
    Setting { members, timing: protocol.timing(members), loss, blocked, seed }
}

fn print_crashes(options: &Options, protocols: &[Protocol]) {
    println!(
        "{} members, {} seeds x {} crashes, loss {} %; virtual time; bytes with {} per message for headers",
        options.members,
        options.seeds,
        options.crashes,
        options.loss * 100.0,
        super::crowd::OVERHEAD_BYTES
    );
    println!(
        "{:<32} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "", "first", "all", "all", "all", "", "false", "quiet", "quiet", "crash", "crash"
    );
    println!(
        "{:<32} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "", "median s", "median s", "p99 s", "max s", "missed", "positive", "msg/s", "KB/s", "msg/s", "KB/s"
    );
    for protocol in protocols {
        let runs: Vec<Crashes> = (options.seed..options.seed + options.seeds)
            .map(|seed| crashes(&setting(options, *protocol, seed), options.crashes))
            .collect();
        print_row(*protocol, &runs);
    }
}

fn print_row(protocol: Protocol, runs: &[Crashes]) {
    let mut first: Vec<Duration> = runs.iter().flat_map(|run| run.first.iter().copied()).collect();
    let mut all: Vec<Duration> = runs.iter().flat_map(|run| run.all.iter().copied()).collect();
    first.sort_unstable();
    all.sort_unstable();
    let mean = |of: fn(&Crashes) -> f64| {
        let count = f64::from(u32::try_from(runs.len()).unwrap_or(u32::MAX));
        runs.iter().map(of).sum::<f64>() / count
    };
    println!(
        "{:<32} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>7} {:>8} {:>9.1} {:>9.2} {:>9.1} {:>9.2}",
        protocol.name(),
        at(&first, 50),
        at(&all, 50),
        at(&all, 99),
        at(&all, 100),
        runs.iter().map(|run| run.missed).sum::<usize>(),
        runs.iter().map(|run| run.false_positives).sum::<usize>(),
        mean(|run| run.quiet_load.0),
        mean(|run| run.quiet_load.1) / 1_000.0,
        mean(|run| run.crash_load.0),
        mean(|run| run.crash_load.1) / 1_000.0,
    );
}

/// The value below which `percent` of the sorted values lie, in seconds.
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).map_or(f64::NAN, Duration::as_secs_f64)
}

fn print_slow(options: &Options, protocols: &[Protocol], workloads: &[Slowness]) {
    println!(
        "{} members, {} seeds x {} s per workload, loss {} %; failures that members believed in",
        options.members,
        options.seeds,
        options.seconds,
        options.loss * 100.0
    );
    println!(
        "{:<32} {:>6} {:>10} {:>10} {:>14} {:>14} {:>12}",
        "", "slow", "blocked s", "between s", "about healthy", "among healthy", "about slow"
    );
    for protocol in protocols {
        let mut sum = Wrongs::default();
        for slowness in workloads {
            let mut wrongs = Wrongs::default();
            for seed in options.seed..options.seed + options.seeds {
                let length = Duration::from_secs(options.seconds);
                wrongs += slow_members(&setting(options, *protocol, seed), *slowness, length);
            }
            let Slowness { slow, blocked, between } = slowness;
            let (blocked, between) = (blocked.as_secs_f64(), between.as_secs_f64());
            println!(
                "{:<32} {slow:>6} {blocked:>10.3} {between:>10.3} {:>14} {:>14} {:>12}",
                protocol.name(),
                wrongs.about_healthy,
                wrongs.among_healthy,
                wrongs.about_slow
            );
            sum += wrongs;
        }
        println!(
            "{:<32} {:>6} {:>10} {:>10} {:>14} {:>14} {:>12}",
            format!("{}, all", protocol.name()),
            "",
            "",
            "",
            sum.about_healthy,
            sum.among_healthy,
            sum.about_slow
        );
    }
}

fn slownesses(text: &str) -> Result<Vec<Slowness>, String> {
    if text == "grid" {
        let mut grid = Vec::new();
        for slow in [1, 8, 32] {
            for blocked in [512, 2_048, 8_192, 32_768] {
                for between in [1, 64, 1_024] {
                    grid.push(slowness(slow, blocked, between));
                }
            }
        }
        return Ok(grid);
    }
    let fields: Vec<u64> = text
        .split(':')
        .map(|field| field.parse().map_err(|_| format!("--slow {text}: not C:BLOCKED_MS:BETWEEN_MS")))
        .collect::<Result<_, _>>()?;
    match fields[..] {
        [slow, blocked, between] if blocked > 0 => {
            Ok(vec![slowness(usize::try_from(slow).unwrap_or(0), blocked, between)])
        }
        _ => Err(format!("--slow {text}: not C:BLOCKED_MS:BETWEEN_MS with BLOCKED_MS over 0")),
    }
}

fn slowness(slow: usize, blocked: u64, between: u64) -> Slowness {
    Slowness { slow, blocked: Duration::from_millis(blocked), between: Duration::from_millis(between) }
}

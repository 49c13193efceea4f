//! `cargo xtask accept peers`: what the mesh promises, one line each.
//!
//! | file | promises |
//! |---|---|
//! | [`outside`] | the clients' own suites, unmodified clients, tests of security and of simulated meshes |
//! | [`speed`] | side by side with nats-server |
//! | [`detection`] | how soon a crash is known, simulated and real |
//! | [`pressure`] | slow subscribers, many subscriptions, many connections |

use super::{Experiment, Line};
use crate::command::Trouble;

mod detection;
mod outside;
mod pressure;
mod speed;

pub(super) const PEERS: &[Experiment] = &[
    short("conformance", outside::conformance),
    short("clients", outside::clients),
    short("speed", speed::thresholds),
    short("detection, simulated", detection::simulated),
    long("detection, 10,000 members", detection::simulated_large),
    long("false positives", detection::false_positives),
    missing("detection, real", || {
        let promise = "a SIGKILL of one of three nodes is known to all within 1.5 s";
        Ok(vec![Line::not_run(promise, "`trine peer watch` is not there yet")])
    }),
    missing("broadcast", || {
        let promise = "broadcast to 10,000 nodes: redundancy at most 0.1, all reached after half crash";
        Ok(vec![Line::not_run(promise, "its simulation is not there yet")])
    }),
    short("security", outside::security),
    short("slow subscriber", pressure::slow_subscriber),
    short("10,000 subscriptions", pressure::subscriptions),
    long("1,000 connections a second", pressure::connections),
    missing("partition of the mesh", || {
        let promise = "after a partition of the mesh interest is right again within 2 s";
        Ok(vec![Line::not_run(promise, "messages between nodes are not there yet")])
    }),
    missing("scenarios of the mesh", || {
        let promise = "simulated scenarios for interest and ordering";
        Ok(vec![Line::not_run(promise, "the scenarios are not there yet")])
    }),
    long("planted bugs", outside::planted),
];

type Run = fn() -> Result<Vec<Line>, Trouble>;

const fn short(name: &'static str, run: Run) -> Experiment {
    Experiment { name, long: false, run }
}

const fn long(name: &'static str, run: Run) -> Experiment {
    Experiment { name, long: true, run }
}

/// A promise whose part is not there yet; `run` says which.
const fn missing(name: &'static str, run: Run) -> Experiment {
    short(name, run)
}

//! `cargo xtask accept peers`: what the mesh promises, one line each.
//!
//! | file | promises |
//! |---|---|
//! | [`outside`] | the clients' own suites, unmodified clients, tests of security, simulated meshes |
//! | [`speed`] | side by side with nats-server; direct requests |
//! | [`detection`] | how soon a crash is known, simulated and real; broadcast |
//! | [`pressure`] | slow subscribers, many subscriptions, many connections |
//! | [`doors`] | strangers at every new door |
//! | [`revoked`] | a removed node is cut off everywhere |
//! | [`apart`] | a cut link and its end; packets to nobody else |

use super::{Experiment, Line};
use crate::command::Trouble;

mod apart;
mod detection;
mod doors;
mod outside;
mod pressure;
mod revoked;
mod speed;

pub(super) const PEERS: &[Experiment] = &[
    short("conformance", outside::conformance),
    short("clients", outside::clients),
    short("speed", speed::thresholds),
    short("detection, simulated", detection::simulated),
    long("detection, 10,000 members", detection::simulated_large),
    long("false positives", detection::false_positives),
    short("detection, real", detection::real),
    long("broadcast", detection::broadcast),
    short("security", outside::security),
    REVOKED,
    DOORS,
    NOBODY_ELSE,
    SLOW,
    MANY,
    short("1,000 connections a second, in short", pressure::some_connections),
    long("1,000 connections a second", pressure::connections),
    short("partition of the mesh", apart::partitions),
    short("scenarios of the mesh", outside::scenarios),
    long("planted bugs", outside::planted),
];

const DOORS: Experiment = short("strangers at the doors", doors::strangers);
const NOBODY_ELSE: Experiment = short("packets to nobody else", apart::nobody_else);
const REVOKED: Experiment = short("removed node", revoked::cut_off);
const SLOW: Experiment = short("slow subscriber", pressure::slow_subscriber);
const MANY: Experiment = short("10,000 subscriptions", pressure::subscriptions);

/// Short enough for every run of the tests.
pub(super) const PRESSURE: &[Experiment] = &[
    REVOKED,
    DOORS,
    NOBODY_ELSE,
    short("partition of the mesh", apart::some_partitions),
    SLOW,
    MANY,
    short("1,000 connections a second, in short", pressure::some_connections),
];

type Run = fn() -> Result<Vec<Line>, Trouble>;

const fn short(name: &'static str, run: Run) -> Experiment {
    Experiment { name, long: false, run }
}

const fn long(name: &'static str, run: Run) -> Experiment {
    Experiment { name, long: true, run }
}

//! The simulated network: the twin of TLS over TCP for tests and the
//! simulator. What it gives is what TCP gives: frames whole and in order on
//! one connection, or the end of the connection; nothing is promised between
//! connections, and so between lanes.
//!
//! Time is explicit. Nothing moves until [`SimNet::advance_to`] is called;
//! it takes what nodes sent since the last call, gives each frame a seeded
//! delay, and delivers what is due, in one fixed order. So the nodes may live
//! in one paused runtime each, stepped in turn on one thread, and the same
//! seed gives the same run. In a test with a single paused runtime,
//! [`SimNet::spawn_driver`] makes the calls.
//!
//! | file | what |
//! |---|---|
//! | `hub` | [`SimNet`], its nodes, dials and faults |
//! | `wire` | one connection: two directions of frames in flight |
//! | `dice` | the seeded generator |
//! | `node` | [`SimTransport`], a node's end |

mod dice;
mod hub;
mod node;
#[cfg(test)]
mod tests;
mod wire;

pub use hub::{SimConfig, SimNet, SimTraffic};
pub use node::SimTransport;

//! The tasks of this room on one node: the door for other nodes' questions, the
//! master (asleep unless this node leads group `jobs`), the worker, and the
//! processes that it executes; and the shelf, where what is old goes.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::handle::Shared;

pub(crate) mod cell;
pub mod cells;
mod disk;
mod door;
mod keeper;
mod lease;
mod master;
pub mod process;
pub mod shelf;
mod sweep;
mod worker;

pub use cells::Cells;
pub(crate) use door::Door;
pub(crate) use master::Event;

/// Beats that may wait for the master's task: two of each worker of the largest
/// cluster, generously.
const EVENTS: usize = 256;

/// Starts all of them; they end with `stop`.
pub(crate) fn start(shared: &Arc<Shared>, stop: &watch::Receiver<bool>) {
    let (events, inbox) = mpsc::channel(EVENTS);
    shared.endpoint.serve(crate::messages::SERVICE, Arc::new(Door::new(shared.clone(), events)));
    tokio::spawn(master::run(shared.clone(), inbox, stop.clone()));
    tokio::spawn(sweep::run(shared.clone(), stop.clone()));
    tokio::spawn(worker::run(shared.clone(), stop.clone()));
    tokio::spawn(keeper::run(shared.clone(), stop.clone()));
}

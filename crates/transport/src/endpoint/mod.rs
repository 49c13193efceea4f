//! Calls and notices on top of any [`crate::Transport`].
//!
//! | file | what |
//! |---|---|
//! | `handle` | [`Endpoint`], what other rooms hold |
//! | `link` | one peer and lane: the rules of waiting, sending, failing |
//! | `pending` | the calls in flight of one connection |
//! | `backoff` | how long to rest between attempts |
//! | `grid` | when to do what nobody waits for |
//! | `served` | handlers, and the connections that came in |
//! | `run` | tasks: dial, read replies, sweep deadlines; accept, serve |
//!
//! A call costs no task and no timer of its own: deadlines are swept per link
//! to [`SWEEP_GRAIN`], replies of one read are completed under one lock.

mod backoff;
mod grid;
mod handle;
mod link;
mod pending;
mod run;
mod served;

pub use grid::Grid;
pub use handle::{Call, Endpoint, Links};
pub use pending::SWEEP_GRAIN;
pub use served::Handler;

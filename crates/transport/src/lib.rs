//! Identity, admission and authenticated lanes between the nodes of a cluster.
//!
//! Whoever holds a [`Connection`] knows that its peer proved the key that its
//! [`trine_types::NodeId`] is. Frames arrive whole and in order on one
//! connection, or the connection is over; nothing is ordered between lanes.
//! Every queue is bounded in number and in bytes, and a full one slows its
//! senders. Deliberately absent: retries (only the caller knows what may be
//! repeated), membership, and any knowledge of what the frames say.
//!
//! | file | what |
//! |---|---|
//! | [`lane`] | lanes and services |
//! | [`transport`] | the seam: [`Transport`] and [`Connection`] |
//! | [`frame`], [`codec`] | frames, their bounded queues, their bytes |
//! | [`envelope`] | calls, notices and replies as frames |
//! | [`endpoint`] | [`Endpoint`]: calls over any transport |
//! | [`simulated`] | the twin for tests: a seeded network with faults |
//! | [`config`], [`error`] | settings and errors |

pub mod codec;
pub mod config;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod lane;
mod signal;
pub mod simulated;
#[cfg(test)]
mod suite;
pub mod transport;

pub use config::EndpointConfig;
pub use endpoint::{Call, Endpoint, Handler, Links};
pub use error::{CallError, CallRefused, OpenError, RefusalReason, UnreachableCause};
pub use frame::{Frame, FrameReceiver, FrameSender, SendError};
pub use lane::{Lane, Service};
pub use signal::Closer;
pub use simulated::{SimConfig, SimNet, SimTransport};
pub use transport::{Connection, Transport};

//! The front door for clients of the NATS protocol: any client library of
//! NATS connects to any node and reaches subscribers on all.
//!
//! Invariants:
//! - Memory of a connection is bounded: a line and a message have limits that
//!   are checked before anything is buffered, and what waits for a client that
//!   does not read makes its publishers wait.
//! - Messages of one client leave in the order in which they came.
//! - Nobody receives a message that its rights deny, whatever it subscribed to.
//!
//! | file | what |
//! |---|---|
//! | [`parser`] | bytes to operations, pure |
//! | [`encode`] | messages, errors and INFO to bytes |
//! | [`connect`], [`info`] | what client and server say about themselves |
//! | [`nkey`] | signatures as NATS writes them |
//! | [`error`] | what a client is told that did something wrong |
//! | [`session`] | what one client may do and asked for, pure |
//! | [`client`] | a client as the bus sees it |
//! | [`monitor`] | reports for monitoring tools |
//! | [`config`], [`handle`] | settings, and the door itself |
//! | `run` | tasks: accepting, connections, WebSocket |

pub mod client;
pub mod config;
pub mod connect;
pub mod encode;
pub mod error;
pub mod handle;
pub mod info;
pub mod monitor;
pub mod nkey;
pub mod parser;
mod run;
pub mod session;

pub use config::{Config, ValidConfig};
pub use handle::{Entrance, Nats, Parts, TlsFirst};
pub use info::{PROTOCOL_OF, ServerInfo};
pub use run::TOO_MANY_CONNECTIONS;

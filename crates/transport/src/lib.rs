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
//! | [`identity`] | keys: a node's, and the one that issues certificates |
//! | [`certificate`], [`endorsement`], [`trust`] | who is admitted, and who is let in |
//! | [`ticket`], [`join`] | how a machine that is no node yet becomes one |
//! | [`lane`] | lanes and services |
//! | [`transport`] | the seam: [`Transport`] and [`Connection`] |
//! | [`frame`], [`codec`] | frames, their bounded queues, their bytes |
//! | [`envelope`] | calls, notices and replies as frames |
//! | [`endpoint`] | [`Endpoint`]: calls over any transport |
//! | [`traffic`] | what passed each lane |
//! | [`tls`] | TLS over TCP: the network of the product |
//! | [`simulated`] | the twin for tests: a seeded network with faults |
//! | [`config`], [`error`] | settings and errors |

pub mod certificate;
pub mod codec;
pub mod config;
pub mod endorsement;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod identity;
pub mod join;
pub mod lane;
mod signal;
pub mod simulated;
#[cfg(test)]
mod suite;
pub mod ticket;
pub mod tls;
pub mod traffic;
pub mod transport;
pub mod trust;

pub use certificate::{Admission, AdmissionCertificate};
pub use config::{EndpointConfig, TlsConfig};
pub use endorsement::Endorsement;
pub use endpoint::{Call, Endpoint, Grid, Handler, Links};
pub use error::{CallError, CallRefused, OpenError, RefusalReason, UnreachableCause};
pub use frame::{Frame, FrameReceiver, FrameSender, SendError};
pub use identity::{Identity, IssuingKey, verify};
pub use join::{JoinAttempt, JoinError, JoinHandler, JoinRefused};
pub use lane::{Lane, Service};
pub use signal::Closer;
pub use simulated::{SimConfig, SimNet, SimTransport};
pub use ticket::{Contact, Secret, Ticket, TicketError};
pub use tls::TlsTransport;
pub use traffic::{LaneTraffic, Passed};
pub use transport::{Connection, Transport};
pub use trust::Trust;

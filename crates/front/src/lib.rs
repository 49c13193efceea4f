//! Where strangers come in: TCP listeners with a bound on how many connections
//! there are, in all and per source address; TLS; and the seam through which
//! a connection becomes a principal.
//!
//! Invariants:
//! - A surface listens beyond loopback only with TLS and users, unless the
//!   settings say otherwise in so many words; else it refuses to start.
//! - A connection over the limit is told why and closed; it never waits in a
//!   queue and it never costs an established connection anything.
//! - An accept error of the operating system (too many open files) slows
//!   accepting down; it never ends it.
//!
//! | file | what |
//! |---|---|
//! | [`config`] | the limits and their defaults |
//! | [`admission`] | counting connections in all and per source, pure |
//! | [`exposure`] | where a surface may listen, pure |
//! | [`listener`] | binding and accepting |
//! | [`login`] | from what a connection shows to a principal with rights: the seam |
//! | [`slowdown`] | guessing is slowed, pure |
//! | [`tls`] | certificates, handshakes, connections that are plain or encrypted |
//! | [`error`] | why binding was refused |

pub mod admission;
pub mod config;
pub mod error;
pub mod exposure;
pub mod listener;
pub mod login;
pub mod slowdown;
pub mod tls;

pub use admission::Permit;
pub use config::Limits;
pub use error::BindError;
pub use exposure::Exposure;
pub use listener::{Accepted, Listener, Listeners};
pub use login::{Credential, Login, LoginRefused, Principal};
pub use tls::{Stream, TlsAcceptor, TlsSettings, TlsSource};

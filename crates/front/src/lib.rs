//! Where strangers come in: TCP listeners on loopback, with a bound on how
//! many connections there are, in all and per source address.
//!
//! Invariants:
//! - A data surface listens on loopback only, until users and rights exist;
//!   any other address refuses to start.
//! - A connection over the limit is told why and closed; it never waits in a
//!   queue and it never costs an established connection anything.
//! - An accept error of the operating system (too many open files) slows
//!   accepting down; it never ends it.
//!
//! | file | what |
//! |---|---|
//! | [`config`] | the limits and their defaults |
//! | [`admission`] | counting connections in all and per source, pure |
//! | [`listener`] | binding and accepting |
//! | [`login`] | from what a connection shows to a principal with rights: the seam |
//! | [`slowdown`] | guessing is slowed, pure |
//! | [`error`] | why binding was refused |

pub mod admission;
pub mod config;
pub mod error;
pub mod listener;
pub mod login;
pub mod slowdown;

pub use admission::Permit;
pub use config::Limits;
pub use error::BindError;
pub use listener::{Accepted, Listener, Listeners};
pub use login::{Credential, Login, LoginRefused, Principal};

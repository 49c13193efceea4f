//! The admin door of one node: a Unix socket in its data directory, mode 0600,
//! which answers only the user who runs the node and root. One JSON object a
//! line in, one a line out.
//!
//! | file | what |
//! |---|---|
//! | [`protocol`] | requests, reports, refusals: what a line holds |
//! | [`logins`] | the same about users, tokens and the audit log |
//! | [`report`] | the same reports as text for people |
//! | [`server`] | the node's side |
//! | [`client`] | the command line's side, and how it finds a node |

pub mod client;
pub mod logins;
pub mod protocol;
pub mod report;
pub mod server;

/// Name of the socket in a data directory.
pub const SOCKET_NAME: &str = "admin.sock";
/// Data directory of `trine start` when none is given.
pub const DEFAULT_DATA: &str = "trine-data";
/// Data directory of `trine dev` when none is given.
pub const DEFAULT_DEV_DATA: &str = "trine-dev";

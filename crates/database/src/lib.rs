//! The distributed database: strings and keys over partitions, taken by any
//! node, spoken to by Redis clients.
//!
//! Invariants:
//! - The rules are pure: time comes with the command, never from a clock; a
//!   read never decides by the wall clock whether a key has expired.
//! - A command on keys of one partition is replicated as a command and is
//!   atomic. MGET, MSET, DEL, UNLINK, EXISTS, TOUCH, DBSIZE and FLUSH over
//!   several partitions are atomic per partition only.
//! - Replies of a connection come in the order of its commands. Its reads see
//!   its earlier writes; on different partitions pipelined commands may run
//!   at the same time.
//! - Everything has a bound: arguments, values, keys, commands in flight,
//!   replies that wait, rows per step.
//!
//! | file | what |
//! |---|---|
//! | [`resp`] | the protocol: values, requests, encoding |
//! | [`table`] | the commands |
//! | [`slots`] | keys to slots to partitions |
//! | [`rows`], [`space`] | how a database lies in rows |
//! | [`rules`] | what commands do |
//! | [`codec`], [`machine`] | what travels to a partition, and what runs there |
//! | [`plan`] | which partitions execute what of a command |
//! | [`groups`] | the seam to the partitions |
//! | [`planted`] | bugs that the simulator must catch |

pub mod args;
pub mod codec;
pub mod error;
pub mod groups;
pub mod machine;
pub mod plan;
pub mod planted;
pub mod resp;
pub mod rows;
#[allow(clippy::missing_errors_doc, reason = "rules refuse as Redis does; Refusal says when")]
pub mod rules;
pub mod slots;
pub mod space;
pub mod table;

//! Python functions on warm interpreters: children of the node that load
//! Python once and then take one call after the other, so that a call costs
//! tens of microseconds instead of the start of a process.
//!
//! Payloads are opaque here: pickled by the client, unpickled by the
//! interpreter. Interpreters are kept per [`Place`]: user, program,
//! environment, and the job where it has an initializer or limits the calls of
//! an interpreter, so that jobs of others never meet what one has left behind.
//! A call that is dropped takes its interpreter, and what that has started,
//! with it.
//!
//! | file | what |
//! |---|---|
//! | [`frame`] | the bytes between node and interpreter, drawn |
//! | [`payload`] | the only part of a pickled call that a node looks at |
//! | [`interpreter`] | one child: its start, its process group, its end |
//! | [`body`] | tasks that are functions, for the worker |
//! | [`pool`] | which are idle, and for whom |
//! | [`run`] | one call, from the first byte to the last |
//! | `worker.py` | the other side, given to `python3 -c` |

pub mod body;
pub mod frame;
pub mod interpreter;
pub mod payload;
pub mod pool;
pub mod run;
#[cfg(test)]
mod worker_tests;

pub use body::{Functions, Settings};
pub use pool::{Call, Interpreters, Place};
pub use run::Ended;

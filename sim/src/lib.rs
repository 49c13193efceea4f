//! The simulator: whole clusters of Trine in one thread, driven by a seed.
//! Machines, disks, network, clocks and randomness are simulated; the code of
//! the nodes is the product's. A run breaks things, watches invariants, checks
//! what clients saw, and can be repeated exactly.
//!
//! | file | what |
//! |---|---|
//! | [`random`], [`clock`], [`trace`] | chance, time, and the proof that a run repeats |
//! | [`hardware`], [`host`], [`world`] | machines and the loop that moves them |
//! | [`system`], [`toy`] | what runs as a node, and one in memory for tests; [`door`] how it is asked |
//! | [`plan`] | which faults strike when |
//! | [`client`], [`history`] | who asks and what came back |
//! | [`linear`], [`register`] | whether that was linearizable |
//! | [`invariant`] | Raft's properties, one file each |
//! | [`scenario`] | what the clients do and what must hold after |
//! | [`bare`], [`whole`], [`meshed`], [`kind`] | the kinds of node |
//! | [`jobs`] | what whole nodes execute, and whether each task ran as promised |
//! | [`planted`] | bugs that must be found |
//! | [`golden`] | logs of released versions, which must replay to the same rows |
//! | [`members`] | failure detection with thousands of members |
//! | [`schedule`] | the scheduler of jobs with thousands of workers |
//! | [`overlay`] | broadcast over a partial view with thousands of members |
//! | [`fleet`], [`job`], [`failure`] | many seeds, one seed from start to report, how it fails |

pub mod bare;
pub mod client;
pub mod clock;
pub mod door;
pub mod failure;
pub mod fleet;
pub mod golden;
pub mod hardware;
pub mod history;
pub mod host;
pub mod invariant;
pub mod job;
pub mod jobs;
pub mod kind;
pub mod linear;
pub mod members;
pub mod meshed;
pub mod overlay;
pub mod plan;
pub mod planted;
pub mod random;
pub mod register;
pub mod scenario;
pub mod schedule;
pub mod system;
pub mod toy;
pub mod trace;
pub mod whole;
pub mod world;

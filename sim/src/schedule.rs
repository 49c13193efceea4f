//! The product's scheduler under virtual time, with thousands of workers and a
//! million tasks: how long jobs take, and how much is executed twice, beside
//! what simpler policies would do with the same tasks on the same machines.
//!
//! | file | what |
//! |---|---|
//! | [`load`] | how many of what: tasks, their times, slow workers, faults |
//! | [`agenda`] | what happens when |
//! | [`pulled`] | the product's scheduler, its workers, its master that changes |
//! | [`pushed`] | tasks placed when they come: at random, or on the shorter of two queues |
//! | [`outcome`] | what came of it |
//! | [`planned`] | what `trine plan` would predict, and what comes |
//! | [`figures`] | the command, and how it prints |

pub mod agenda;
pub mod figures;
pub mod load;
pub mod outcome;
pub mod planned;
pub mod pulled;
pub mod pushed;

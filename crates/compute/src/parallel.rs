//! The words of GNU parallel, as far as they concern one machine's decisions:
//! which command lines there are, in which order, and what is to be said of
//! them afterwards. Pure; who reads, submits and prints is the command line.
//!
//! What is here was written from the manual and from watching the program;
//! `crates/trine/tests/run.rs` runs the two side by side where it is installed.
//!
//! | file | what |
//! |---|---|
//! | [`plain`] | command lines that need no shell |
//! | [`quote`] | an argument as one word of a shell |
//! | [`template`] | replacement strings |
//! | [`sources`] | where arguments come from, and their combinations |
//! | [`blocks`] | standard input cut at the borders of records |
//! | [`joblog`] | the log of what ran, written and read again |
//! | [`halt`] | when to stop early, and the exit code |
//! | [`patience`] | how long a task may take |
//! | [`tag`] | whose output a line is |

pub mod blocks;
pub mod halt;
pub mod joblog;
pub mod patience;
pub mod plain;
pub mod quote;
pub mod sources;
pub mod tag;
pub mod template;

//! Jobs on whole nodes: the product's group `jobs`, master, scheduler and
//! workers; what a task does is the seed's.
//!
//! | file | what |
//! |---|---|
//! | [`outside`] | tasks as the world sees them: each execution, its begin and end |
//! | [`book`] | what was submitted, and what submitters heard |
//! | [`submitter`] | who submits, cancels, reads results and is lost |
//! | [`judge`] | what may not be |
//! | [`story`] | faults, healing, a lost worker, and what must hold after |

pub mod book;
pub mod judge;
pub mod outside;
pub mod story;
pub mod submitter;

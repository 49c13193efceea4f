//! Failure detection with thousands of members: the product's machine under
//! virtual time, as a discrete-event simulation without any runtime.
//!
//! | file | what |
//! |---|---|
//! | [`crowd`] | members, network, clock, and the loop that moves them |
//! | [`trial`] | crashes, and members that are slow for a while |
//! | [`figures`] | what is measured and how it is printed |

pub mod crowd;
pub mod figures;
pub mod trial;

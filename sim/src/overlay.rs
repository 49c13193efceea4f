//! Broadcast over a partial view with thousands of members: the machine of
//! `trine_mesh::broadcast` under virtual time, as a discrete-event simulation.
//!
//! | file | what |
//! |---|---|
//! | [`net`] | members, links, clock, and the loop that moves them |
//! | [`figures`] | what is measured and how it is printed |

pub mod figures;
pub mod net;

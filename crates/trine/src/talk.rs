//! `trine peer ping|send|request|publish|subscribe|copy`: messages through a
//! running node, over its admin socket.
//!
//! | file | what |
//! |---|---|
//! | [`words`] | what the command line and the node say to each other |
//! | [`node`] | the node's side |
//! | [`shell`] | the command line's side |
//! | [`copy`] | files to other nodes: both ends between nodes |

pub mod copy;
pub mod node;
pub mod shell;
pub mod words;

//! Members: who of the admitted nodes is there, agreed on by gossip, without a
//! centre. SWIM with Lifeguard, as a machine without IO, clock or threads, and
//! the task that lets it take part.
//!
//! `meta` alone says who belongs; this says who answers. It drives messages
//! and hints, and never decides who owns anything.
//!
//! | file | what |
//! |---|---|
//! | [`life`] | lives, states, beliefs, and which belief wins |
//! | [`roster`] | who belongs, and in which order they are probed |
//! | [`timing`] | periods and timeouts for a number of members |
//! | [`health`], [`suspicion`] | Lifeguard: own slowness, confirmed suspicion |
//! | [`gossip`] | what is still to be passed on |
//! | [`message`], [`codec`] | what members tell each other, and its bytes |
//! | [`probe`] | probes and errands under way |
//! | [`machine`] | [`Members`]: events in, effects out |
//! | [`measure`], [`profile`] | round trips, loads; what a node says about itself |
//! | [`view`], [`handle`] | what other rooms see of it: [`Peers`] |
//! | [`run`] | the task that lets the machine take part |

pub mod codec;
pub mod gossip;
pub mod handle;
pub mod health;
pub mod life;
pub mod machine;
pub mod measure;
pub mod message;
pub mod probe;
pub mod profile;
pub mod roster;
pub mod run;
#[cfg(test)]
mod stories;
pub mod suspicion;
pub mod timing;
pub mod view;

pub use handle::Peers;
pub use life::{Belief, Life, State};
pub use machine::{Change, Effect, Event, Members, Myself};
pub use message::Message;
pub use profile::{BadTags, Profile};
pub use roster::Roster;
pub use run::{Parts, start};
pub use timing::Timing;
pub use view::View;

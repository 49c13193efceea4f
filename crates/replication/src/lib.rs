//! Groups: replicated state machines. A room brings a [`Machine`]; this room
//! runs it on several nodes in the same order, executes each command exactly
//! once wherever it was proposed, answers linearizable queries, and changes
//! members and leaders without stopping.
//!
//! Invariants:
//! - A reply to a proposal means: on the disks of a majority, and executed.
//! - Commands of one node to one group execute in the order of its calls, each
//!   at most once, over any number of retries, leaders and restarts of others.
//! - One apply path: the leader, the followers and a replay run the same
//!   function on the same stamped batches.
//! - State time never goes back, and no read decides by a clock.
//! - openraft is named by `engine` and the tasks in `run`, and by nothing
//!   that is public.
//!
//! Deliberately absent: what commands mean, where replicas should be, leases
//! for reads, an fsync on the request path other than the log's.
//!
//! | file | what |
//! |---|---|
//! | [`handle`] | [`Replication`], what other rooms hold |
//! | [`machine`] | [`Machine`], what other rooms bring |
//! | `batch`, `session`, `link`, `frames`, `gather`, `pulse`, `disk_pace`, `proof` | the rules, pure, and their bytes |
//! | `apply`, `replica`, `replay` | entries into rows; which rows count; rows of a kept log |
//! | `engine` | openraft behind one adapter |
//! | `node`, `groups` | what tasks share; opening and closing replicas |
//! | `run` | the tasks |
//! | [`status`], [`error`], [`config`], [`planted`] | as they say |

mod apply;
mod batch;
mod bytes_codec;
pub mod config;
mod disk_pace;
mod engine;
pub mod error;
mod frames;
mod gather;
mod groups;
pub mod handle;
mod link;
pub mod machine;
mod node;
pub mod planted;
mod proof;
mod pulse;
mod replay;
mod replica;
mod run;
mod session;
pub mod status;

pub use config::Config;
pub use engine::runtime::seed_thread;
pub use error::{ChangeError, GroupError, ProposeError, QueryError, StartError};
pub use handle::{Replication, Reply, Timing};
pub use machine::{Answer, Machine, ReadTime, Stamp};
pub use node::Parts;
pub use replay::replay;
pub use status::{GroupStatus, Role};

//! The tasks of an endpoint: one per link that dials or is connected, one that
//! accepts, one per connection that came in.

mod carry;
mod serve;

pub(super) use carry::run_link;
pub(super) use serve::accept_all;

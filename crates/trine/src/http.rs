//! HTTP doors of a node: the admin API, and whatever else answers small
//! documents over HTTP/1.1. One stack, so that every such door has the same
//! bounds against slow and greedy clients.
//!
//! Invariants: every connection, header, body, answer and stop has a limit
//! with a name ([`limits`]); nothing but health is said without a credential,
//! on loopback too; a page of another site can neither ask nor read.
//!
//! | file | what |
//! |---|---|
//! | [`limits`] | the named bounds |
//! | [`site`] | what a door serves: requests, replies, the trait |
//! | [`run`] | accepting, one task per connection, stopping in order |
//! | [`crowd`] | who is connected, and who goes when there are too many |
//! | [`stall`] | a socket that gives up on a client who does not read |
//! | [`origin`] | Host and Origin: who made the browser ask |
//! | [`guard`] | credentials: the seam, the token file, the price of a wrong guess |
//! | [`routes`] | the table of what can be asked, and the OpenAPI document made of it |
//! | [`api`] | from a route to the node's answer |
//! | [`jobs`] | the same for jobs: submitting, following, blobs |
//! | [`metrics`] | what Prometheus scrapes |

pub mod api;
pub mod crowd;
pub mod guard;
pub mod jobs;
pub mod limits;
pub mod metrics;
pub mod origin;
pub mod routes;
pub mod run;
pub mod site;
pub mod stall;

pub use run::HttpServer;

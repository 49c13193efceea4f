//! `trine start`: one node of the product.

/// File that a node keeps in its data directory once it belongs to a cluster.
pub const MEMBER_FILE: &str = "member";

/// Runs the node until it is told to stop.
///
/// # Errors
/// The settings or the data directory cannot be used, or the node fails.
pub fn run(_args: &crate::cli::StartArgs) -> Result<(), crate::failure::Failure> {
    Err(crate::failure::Failure::new("not wired yet"))
}

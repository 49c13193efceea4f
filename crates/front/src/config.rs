//! The limits of one listener.

/// Open files that a node needs beside client connections: log segments,
/// tables, lanes to other nodes.
const OPEN_FILES_RESERVED: u64 = 512;

/// Bounds of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time. Each costs a task and some tens of
    /// kilobytes; more than this get a refusal.
    pub max_connections: usize,
    /// Connections at the same time from one address. As long as everybody
    /// comes from loopback this protects nobody, so it equals the maximum.
    pub max_per_source: usize,
    /// Length of the kernel's queue of connections not yet accepted.
    pub backlog: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 10_000, max_per_source: 10_000, backlog: 1024 }
    }
}

impl Limits {
    /// Raises this process's limit of open files as far as the system lets
    /// it, and lowers the connection limits to what then fits.
    #[must_use]
    pub fn fitted_to_open_files(mut self) -> Self {
        let fits =
            usize::try_from(raise_open_files().saturating_sub(OPEN_FILES_RESERVED)).unwrap_or(usize::MAX);
        let fits = fits.max(16);
        self.max_connections = self.max_connections.min(fits);
        self.max_per_source = self.max_per_source.min(fits);
        self
    }
}

/// Raises the soft limit of open files to the hard one; answers what holds.
fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => before.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_the_open_files_of_this_process() {
        let fitted = Limits { max_connections: usize::MAX, ..Limits::default() }.fitted_to_open_files();
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let open_files = usize::try_from(open_files.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        assert!(fitted.max_connections <= open_files && fitted.max_connections >= 16);
    }
}

//! What holds tasks in: whom they run as and where.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, in_range};

/// Where users are named.
const USERS_FILE: &str = "/etc/passwd";

/// Settings as they stand in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskLimits {
    /// The user that all tasks run as where the node runs as root: a name, or
    /// `UID:GID`. Default: each task as a user of its own (53000 and up), so
    /// that tasks cannot reach each other either.
    pub user: Option<String>,
    /// Where tasks have their directories where the node runs as root. Default
    /// `/var/tmp/trine-tasks`. (Otherwise they are in the data directory.)
    pub folder: Option<PathBuf>,
    /// Whether tasks may run where nothing keeps them from the node's data and
    /// keys. Default no.
    #[serde(rename = "unsafe")]
    pub unconfined: bool,
}

/// Settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidTasks {
    /// User and group that all tasks run as, if there is one for all.
    pub user: Option<(u32, u32)>,
    /// Where tasks of other users have their directories.
    pub folder: PathBuf,
    /// Whether tasks may run without any confinement.
    pub unconfined: bool,
}

impl TaskLimits {
    pub(super) fn validate(self) -> Result<ValidTasks, ConfigError> {
        let user = self.user.map(|name| {
            let found = numbers(&name).or_else(|| look_up(&name));
            let allowed = "a user of this machine that is not root, or UID:GID";
            let fits = found.is_some_and(|(uid, _)| uid != 0);
            in_range("limits.tasks.user", name, fits, allowed).map(|_| found.unwrap_or_default())
        });
        let folder =
            self.folder.unwrap_or_else(|| PathBuf::from(trine_compute::launch::place::SHARED_FOLDER));
        let shown = folder.display().to_string();
        in_range("limits.tasks.folder", shown, folder.is_absolute(), "an absolute path")?;
        Ok(ValidTasks { user: user.transpose()?, folder, unconfined: self.unconfined })
    }
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn look_up(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string(USERS_FILE).ok()?;
    let mut fields =
        users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
    let uid = fields.nth(2)?.parse().ok()?;
    Some((uid, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_two_numbers() {
        let user = |text: &str| TaskLimits { user: Some(text.into()), ..TaskLimits::default() }.validate();
        assert_eq!(user("70000:70001").expect("numbers").user, Some((70_000, 70_001)));
        assert!(user("nobody").expect("every system has it").user.is_some_and(|(uid, _)| uid > 0));
        assert!(user("0:0").is_err());
    }
}

//! Which file a program's name means, as the shell finds it. Done here, not by
//! the C library: only a path can be started without a copy of this process.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use tokio::time::Instant;

/// Where programs are if the environment does not say.
const USUAL: &str = "/usr/local/bin:/usr/bin:/bin";

/// How long an answer is good: the tasks of a job name the same program.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The last answer.
#[derive(Default)]
pub(super) struct Found {
    last: Option<Answer>,
}

struct Answer {
    name: Vec<u8>,
    path: Option<String>,
    file: PathBuf,
    since: Instant,
}

impl Found {
    /// As [`program`], which looks at every folder of `PATH` up to the right one.
    ///
    /// # Errors
    /// As that has them.
    pub(super) fn program(&mut self, name: &[u8], env: &[(String, String)]) -> io::Result<PathBuf> {
        let path = path(env);
        if let Some(last) = &self.last
            && last.name == name
            && last.path.as_deref() == path
            && last.since.elapsed() < GOOD_FOR
            && access(&last.file, Access::EXEC_OK).is_ok()
        {
            return Ok(last.file.clone());
        }
        let file = program(name, env)?;
        let (name, path, since) = (name.to_vec(), path.map(str::to_owned), Instant::now());
        self.last = Some(Answer { name, path, file: file.clone(), since });
        Ok(file)
    }
}

fn path(env: &[(String, String)]) -> Option<&str> {
    env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_str())
}

/// The file that `name` means with this environment.
///
/// # Errors
/// There is none, or none that may be executed.
fn program(name: &[u8], env: &[(String, String)]) -> io::Result<PathBuf> {
    if name.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if name.contains(&b'/') {
        return Ok(Path::new(OsStr::from_bytes(name)).to_owned());
    }
    let path = path(env).unwrap_or(USUAL);
    let mut refused = false;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let file = Path::new(folder).join(OsStr::from_bytes(name));
        match access(&file, Access::EXEC_OK) {
            Ok(()) if !file.is_dir() => return Ok(file),
            Err(Errno::ACCESS) => refused |= file.is_file(),
            _ => {}
        }
    }
    Err(if refused { io::ErrorKind::PermissionDenied } else { io::ErrorKind::NotFound }.into())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_that_may_be_executed_is_meant() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |folder: &str, name: &str, mode| {
            let folder = dir.path().join(folder);
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join(name), "").expect("written");
            std::fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).expect("ours");
            folder.join(name)
        };
        file("a", "plain", 0o644);
        file("a", "tool", 0o644);
        let second = file("b", "tool", 0o755);
        let path = format!("{0}/none:{0}/a:{0}/b", dir.path().display());
        let env = [("PATH".to_owned(), path)];
        assert_eq!(program(b"tool", &env).expect("found"), second);
        let kind = |name: &[u8]| program(name, &env).expect_err("none").kind();
        assert_eq!(kind(b"plain"), io::ErrorKind::PermissionDenied);
        assert_eq!((kind(b"no"), kind(b"")), (io::ErrorKind::NotFound, io::ErrorKind::NotFound));
        assert_eq!(program(b"./x", &env).expect("a path"), Path::new("./x"));
        let mut found = Found::default();
        assert_eq!(found.program(b"tool", &env).expect("found"), second);
        assert_eq!(found.program(b"tool", &env).expect("found again"), second);
        found.program(b"tool", &[("PATH".to_owned(), "/none".to_owned())]).expect_err("another PATH");
        found.program(b"no", &env).expect_err("another name");
    }
}

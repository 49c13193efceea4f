//! Files that travel with a task: out as an archive that the task's shell
//! unpacks before the command runs, back as one behind its output. Both are
//! blobs, named by what is in them; the archive of a result is what its task
//! printed, so that it is committed, kept and checked as that is.
//!
//! ```text
//! standard output of a task   what the command printed, then, if it returns files:
//!                             \n--- trine returns <16 bytes, hex> ---\n, then a tar archive
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use trine_compute::parallel::quote::quote;
use trine_compute::spec::Input;
use trine_compute::{TaskSpec, Work};

/// The variable of a job that says what separates output from returned files.
pub const RETURNS_VARIABLE: &str = "TRINE_RETURNS";
/// Most bytes of the files of one task.
const MAX_SENT_BYTES: u64 = 256 * 1024 * 1024;
/// A task's standard input, among its files.
const INPUT_NAME: &str = ".trine-input";
/// Exit code of a task whose files could not be unpacked: it was not executed.
const NOT_UNPACKED: u8 = 126;

/// A file: where it is here, and what its name is at the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Here.
    pub here: PathBuf,
    /// There, below the task's directory.
    pub there: PathBuf,
}

impl Place {
    /// What a name means: as it is, or from `/./` on.
    ///
    /// # Errors
    /// It leads out of the task's directory.
    pub fn of(option: &str, name: &[u8]) -> Result<Self, String> {
        let cut = name.windows(3).position(|window| window == b"/./");
        let there = Path::new(OsStr::from_bytes(cut.map_or(name, |at| &name[at + 3..])));
        let parts = there.components().filter(|part| *part != Component::CurDir);
        let there: PathBuf = parts.clone().collect();
        let inside = parts.clone().all(|part| matches!(part, Component::Normal(_)));
        if !inside || there.as_os_str().is_empty() {
            let name = String::from_utf8_lossy(name);
            return Err(format!(
                "{option} {name}: a task's files are in its own directory; write DIR/./FILE to name FILE there"
            ));
        }
        Ok(Self { here: PathBuf::from(OsStr::from_bytes(name)), there })
    }
}

/// What travels with one task, as its options name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parcel {
    /// Out.
    pub sent: Vec<Place>,
    /// Back; where they go here, is `there`, too.
    pub returned: Vec<PathBuf>,
    /// Whether the task's shell removes both afterwards.
    pub cleanup: bool,
}

impl Parcel {
    /// Whether nothing travels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.returned.is_empty()
    }

    /// The archive of what is sent, its standard input among it, and what was
    /// left out because it cannot be read.
    ///
    /// # Errors
    /// It is too much.
    pub fn pack(&self, input: Option<&[u8]>) -> Result<(Bytes, Vec<String>), String> {
        let too_much = || format!("the files of one task have at most {} MiB", MAX_SENT_BYTES >> 20);
        let (mut archive, mut missing) = (tar::Builder::new(Vec::new()), Vec::new());
        let (mut bytes, mut named) = (0, BTreeSet::new());
        archive.follow_symlinks(true);
        for Place { here, there } in &self.sent {
            if !named.insert(there) {
                continue;
            }
            let found = std::fs::metadata(here);
            bytes += found.as_ref().map_or(0, std::fs::Metadata::len);
            if bytes > MAX_SENT_BYTES {
                return Err(too_much());
            }
            let added = found.and_then(|meta| {
                if meta.is_dir() {
                    archive.append_dir_all(there, here)
                } else {
                    archive.append_path_with_name(here, there)
                }
            });
            if let Err(error) = added {
                missing.push(format!("{}: {error}", here.display()));
            }
        }
        if let Some(input) = input {
            let mut header = tar::Header::new_gnu();
            header.set_size(input.len() as u64);
            header.set_mode(0o600);
            archive.append_data(&mut header, INPUT_NAME, input).map_err(|error| error.to_string())?;
        }
        let archive = archive.into_inner().map_err(|error| error.to_string())?;
        if archive.len() as u64 > MAX_SENT_BYTES {
            return Err(too_much());
        }
        Ok((archive.into(), missing))
    }

    /// The task that does so with these words, given its archive's hash.
    /// Whatever its command does, its files are returned and its exit code is kept.
    #[must_use]
    pub fn wrap(&self, task: TaskSpec, archive: [u8; 32], mark: &str) -> TaskSpec {
        let Work::Process { argv, stdin, env } = task.work else { return task };
        let script = self.script(&argv, stdin.is_some(), mark);
        let argv = vec![b"/bin/sh".to_vec(), b"-c".to_vec(), script];
        TaskSpec { pin: task.pin, work: Work::Process { argv, stdin: Some(Input::Blob(archive)), env } }
    }

    fn script(&self, argv: &[Vec<u8>], has_input: bool, mark: &str) -> Vec<u8> {
        let words = |words: &[Vec<u8>]| words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(&b' ');
        let paths = |paths: &mut dyn Iterator<Item = &PathBuf>| {
            words(&paths.map(|path| path.as_os_str().as_bytes().to_vec()).collect::<Vec<_>>())
        };
        let input = if has_input {
            format!("exec < {INPUT_NAME}; rm -f {INPUT_NAME}")
        } else {
            "exec < /dev/null".to_owned()
        };
        let mut script = format!("tar -xof - || exit {NOT_UNPACKED}\n{input}\n").into_bytes();
        script.extend(words(argv));
        script.extend_from_slice(b"\ntrine_exit=$?\n");
        if !self.returned.is_empty() {
            script.extend_from_slice(format!("printf '%s' {}\n", shell_text(&marker(mark))).as_bytes());
            script.extend([b"tar -cf - -- ".to_vec(), paths(&mut self.returned.iter())].concat());
            script.push(b'\n');
        }
        if self.cleanup {
            let all = paths(&mut self.sent.iter().map(|place| &place.there).chain(&self.returned));
            script.extend([b"rm -rf -- ".to_vec(), all, b"\n".to_vec()].concat());
        }
        script.extend_from_slice(b"exit $trine_exit\n");
        script
    }
}

/// What stands between output and returned files.
#[must_use]
pub fn marker(mark: &str) -> String {
    format!("\n--- trine returns {mark} ---\n")
}

fn shell_text(text: &str) -> String {
    format!("'{text}'")
}

/// Parts what a task printed from the files that it returns.
#[derive(Debug)]
pub struct Splitter {
    marker: Vec<u8>,
    held: Vec<u8>,
    files: Option<File>,
}

impl Splitter {
    /// At the begin of a task's output.
    #[must_use]
    pub fn new(mark: &str) -> Self {
        Self { marker: marker(mark).into_bytes(), held: Vec::new(), files: None }
    }

    /// The next piece; what of it the command printed goes to the end of `text`.
    ///
    /// # Errors
    /// There is no room for the files.
    pub fn pass(&mut self, piece: &[u8], text: &mut Vec<u8>) -> io::Result<()> {
        if let Some(files) = &mut self.files {
            return files.write_all(piece);
        }
        self.held.extend_from_slice(piece);
        let length = self.marker.len();
        if let Some(at) = self.held.windows(length).position(|window| window == self.marker) {
            text.extend_from_slice(&self.held[..at]);
            let mut files = tempfile::tempfile()?;
            files.write_all(&self.held[at + length..])?;
            (self.files, self.held) = (Some(files), Vec::new());
            return Ok(());
        }
        let sure = self.held.len().saturating_sub(length - 1);
        text.extend(self.held.drain(..sure));
        Ok(())
    }

    /// The end: the rest of the text, and the archive if one came.
    ///
    /// # Errors
    /// It cannot be read again.
    pub fn finish(mut self, text: &mut Vec<u8>) -> io::Result<Option<File>> {
        text.append(&mut self.held);
        if let Some(files) = &mut self.files {
            files.seek(SeekFrom::Start(0))?;
        }
        Ok(self.files)
    }
}

/// Unpacks returned files below `folder`: those that were asked for, nothing
/// else. Says which of them did not come.
///
/// # Errors
/// The archive is damaged, or a file cannot be written.
pub fn unpack(archive: impl Read, wanted: &[PathBuf], folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing: BTreeSet<&PathBuf> = wanted.iter().collect();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(asked) = wanted.iter().find(|wanted| path.starts_with(wanted)) else { continue };
        let kind = entry.header().entry_type();
        if (kind.is_file() || kind.is_dir()) && entry.unpack_in(folder)? {
            missing.remove(asked);
        }
    }
    Ok(missing.into_iter().cloned().collect())
}

/// The folder of `--results` for these arguments, as parallel names it.
#[must_use]
pub fn results_folder(folder: &[u8], args: &[Vec<u8>]) -> PathBuf {
    let mut path = PathBuf::from(OsStr::from_bytes(folder));
    for (position, arg) in (1..).zip(args) {
        path.push(format!("{position}"));
        let mut name = Vec::with_capacity(arg.len());
        for byte in arg {
            match byte {
                b'\\' => name.extend_from_slice(b"\\\\"),
                b'/' => name.extend_from_slice(b"\\_"),
                b'\t' => name.extend_from_slice(b"\\t"),
                0 => name.extend_from_slice(b"\\0"),
                other => name.push(*other),
            }
        }
        path.push(std::ffi::OsString::from_vec(name));
    }
    path
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn parcel(sent: &[&str], returned: &[&str], folder: &Path) -> Parcel {
        let place = |name: &&str| {
            let place = Place::of("--transferfile", name.as_bytes()).expect("a place");
            Place { here: folder.join(&place.here), ..place }
        };
        let returned = returned.iter().map(PathBuf::from).collect();
        Parcel { sent: sent.iter().map(place).collect(), returned, cleanup: false }
    }

    fn execute(task: &TaskSpec, archive: &[u8], folder: &Path) -> std::process::Output {
        let Work::Process { argv, .. } = &task.work else { panic!("a process") };
        let words = argv[1..].iter().map(|word| OsStr::from_bytes(word));
        let mut child = Command::new("/bin/sh")
            .args(words)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        child.stdin.take().expect("piped").write_all(archive).expect("written");
        child.wait_with_output().expect("ends")
    }

    #[test]
    fn files_go_and_come_back_and_the_exit_code_is_kept() {
        let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(here.path().join("x y")).expect("made");
        std::fs::write(here.path().join("x y/it's"), "abc").expect("written");
        let parcel = parcel(&["x y/./it's", "none"], &["out/made", "not made"], here.path());
        let line = "cat; cat \"it's\"; mkdir out; tr a-c A-C < \"it's\" > out/made; exit 3";
        let stdin = Some(Input::Inline(Bytes::from_static(b"in ")));
        let argv = ["sh", "-c", line].map(|word| word.as_bytes().to_vec()).to_vec();
        let task = TaskSpec { pin: None, work: Work::Process { argv, stdin, env: Vec::new() } };
        let (archive, missing) = parcel.pack(Some(b"in ")).expect("packed");
        assert!(missing.len() == 1 && missing[0].contains("none: No such file"), "{missing:?}");
        let out = execute(&parcel.wrap(task, [0; 32], "00ff"), &archive, there.path());
        assert_eq!(out.status.code(), Some(3));
        let (mut splitter, mut text) = (Splitter::new("00ff"), Vec::new());
        for piece in out.stdout.chunks(7) {
            splitter.pass(piece, &mut text).expect("room");
        }
        let files = splitter.finish(&mut text).expect("read").expect("files came");
        assert_eq!(text, b"in abc");
        let missing = unpack(files, &parcel.returned, here.path()).expect("unpacked");
        assert_eq!(missing, [PathBuf::from("not made")]);
        assert_eq!(std::fs::read(here.path().join("out/made")).expect("returned"), b"ABC");
    }

    #[test]
    fn a_shared_folder_is_left_as_it_was() {
        let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        std::fs::write(here.path().join("a"), "abc").expect("written");
        let parcel = Parcel { cleanup: true, ..parcel(&["a"], &["b"], here.path()) };
        let (archive, _) = parcel.pack(None).expect("packed");
        let task = TaskSpec::process(["cp", "a", "b"]);
        let out = execute(&parcel.wrap(task, [0; 32], "00"), &archive, there.path());
        assert!(out.status.success() && out.stdout.starts_with(marker("00").as_bytes()));
        assert_eq!(std::fs::read_dir(there.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn names_stay_in_the_directory_of_the_task() {
        let there = |name: &str| Place::of("--transferfile", name.as_bytes()).map(|place| place.there);
        for (name, expected) in [("a/b", "a/b"), ("./a", "a"), ("/x/y/./a/b", "a/b"), ("../x/./a", "a")] {
            assert_eq!(there(name), Ok(PathBuf::from(expected)), "{name}");
        }
        for name in ["/etc/x", "../x", "a/../../x", "", ".", "x/./../y"] {
            assert!(there(name).expect_err(name).contains("DIR/./FILE"), "{name}");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_not_unpacked() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut archive = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        archive.append_link(&mut link, "asked", "/tmp").expect("added");
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        archive.append_data(&mut header, "other", &b"x"[..]).expect("added");
        let archive = archive.into_inner().expect("whole");
        let wanted = [PathBuf::from("asked")];
        assert_eq!(unpack(archive.as_slice(), &wanted, folder.path()).expect("read"), wanted);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn output_without_files_is_text_to_its_end() {
        let (mut splitter, mut text) = (Splitter::new("00"), Vec::new());
        splitter.pass(b"a\n--- trine returns 0", &mut text).expect("room");
        splitter.pass(b"1 ---\n", &mut text).expect("room");
        assert!(splitter.finish(&mut text).expect("read").is_none());
        assert_eq!(text, b"a\n--- trine returns 01 ---\n");
    }

    /// Seen of parallel 20221122.
    #[test]
    fn folders_of_results_are_named_as_by_parallel() {
        let args = [&b"b/c"[..], b"a\tb\\c", b"d e"].map(<[u8]>::to_vec);
        let folder = results_folder(b"out", &args);
        assert_eq!(folder, PathBuf::from("out/1/b\\_c/2/a\\tb\\\\c/3/d e"));
    }
}

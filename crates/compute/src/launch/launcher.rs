//! The launcher's process. It has one thread and one task at a time, and blocks
//! on what can happen: an order of the node, the end of the task. When the node
//! is gone, however it went, so is everything here.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_open, prlimit, set_child_subreaper, setrlimit,
};

use super::confine::Confinement;
use super::directory::{Directory, remove};
use super::find::Found;
use super::offspring;
use super::wire::{self, HEAD_BYTES, News, NotStarted, Order, STREAMS, Setup, Start};

/// How often the lease is looked at while a task runs.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// Looks at a lease that nobody renews until it has lapsed: [`LET_GO`]. Counted,
/// so that a time in which this process did not run either is none.
///
/// [`LET_GO`]: crate::messages::LET_GO
const MAX_LOOKS: u32 = 6;
/// Looks after which leave is taken of what a running task has left behind.
const BURY_LOOKS: u32 = 4;

/// What a launcher's process does until its node is gone. Its standard input is
/// the socket to the node.
///
/// # Errors
/// The node speaks another language, or went away in the middle of a word.
pub fn serve() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut node = Node { socket };
    let Some((setup, handed)) = node.hear::<Setup>()? else { return Ok(()) };
    let [lease]: [OwnedFd; 1] = handed.try_into().map_err(|_| io::Error::other("no lease came with it"))?;
    set_child_subreaper(Some(getpid()))?;
    let limited = super::confine::limit(setup.processes).map_err(|error| error.to_string());
    if let Err(why) = limited.and_then(|()| setup.confinement.apply(&setup.folder, &setup.open)) {
        return node.tell(&News::Unfit(why));
    }
    let alone = match setup.confinement {
        Confinement::User { uid, alone: true, .. } => Some(uid),
        _ => None,
    };
    let lease = Lease { number: lease.into() };
    let mut launcher = Launcher { folder: &setup.folder, alone, lease, kept: None, found: Found::default() };
    launcher.tidy();
    node.tell(&News::Ready)?;
    while let Some((order, streams)) = node.hear::<Order>()? {
        if let Order::Start(start) = order
            && !launcher.execute(&start, streams, &mut node)?
        {
            return Ok(());
        }
        // A stop comes late: what it was for has ended.
    }
    Ok(())
}

/// The other end.
struct Node {
    socket: UnixStream,
}

impl Node {
    /// The next message, and the descriptors that came with it; `None`: the
    /// node is gone.
    fn hear<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut head = [0; HEAD_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::io::retry_on_intr(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        if got.bytes == 0 {
            return Ok(None);
        }
        let mut streams = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                streams.extend(rights);
            }
        }
        self.socket.read_exact(&mut head[got.bytes..])?;
        let mut body = vec![0; wire::body_length(head)?];
        self.socket.read_exact(&mut body)?;
        Ok(Some((wire::message(&body)?, streams)))
    }

    fn tell(&mut self, news: &News) -> io::Result<()> {
        self.socket.write_all(&wire::frame(news))
    }
}

struct Launcher<'a> {
    folder: &'a Path,
    /// The user that only this launcher and its tasks are.
    alone: Option<u32>,
    /// What the node renews as long as it runs.
    lease: Lease,
    /// The directory of the last task, if it has left it as it was made.
    kept: Option<Directory>,
    /// What the name of a program meant.
    found: Found,
}

struct Lease {
    number: File,
}

impl Lease {
    /// What the node wrote last; the same as before if it cannot be read.
    fn read(&self) -> [u8; 8] {
        let mut number = [0; 8];
        // An error: nobody renews it.
        let _ = self.number.read_at(&mut number, 0);
        number
    }
}

/// Why a process is at its end, or must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Own,
    Asked,
    Lapsed,
    /// The node is gone.
    Gone,
}

impl Launcher<'_> {
    /// Removes what a killed predecessor has left in the folder.
    fn tidy(&self) {
        offspring::kill_user(self.alone);
        for entry in std::fs::read_dir(self.folder).into_iter().flatten().flatten() {
            remove(&entry.path());
        }
    }

    /// Executes one task to its end. False: the node is gone.
    fn execute(&mut self, start: &Start, streams: Vec<OwnedFd>, node: &mut Node) -> io::Result<bool> {
        let own = match self.directory(&start.name) {
            Ok(own) => own,
            Err(error) => {
                let why = NotStarted::Other(format!("no directory for it: {error}"));
                node.tell(&News::NotStarted(why))?;
                return Ok(true);
            }
        };
        let mut child = match self.start(start, own.path(), streams) {
            Ok(child) => child,
            Err(why) => {
                self.kept = Some(own);
                node.tell(&News::NotStarted(why))?;
                return Ok(true);
            }
        };
        let end = watch(&child, node, &self.lease);
        // Before its number can be given to another.
        offspring::kill_group(Pid::from_child(&child));
        let status = child.wait()?;
        offspring::end_all(self.alone);
        let clean = own.is_untouched();
        let there = !matches!(end, Ok(End::Gone) | Err(_));
        let lapsed = matches!(end, Ok(End::Lapsed));
        if there {
            node.tell(&News::Ended { status: status.into_raw(), clean, lapsed })?;
        }
        if clean {
            self.kept = Some(own);
            return Ok(there);
        }
        remove(own.path());
        if there {
            node.tell(&News::Clean)?;
        }
        Ok(there)
    }

    /// The directory of the next task: an empty one.
    fn directory(&mut self, name: &str) -> io::Result<Directory> {
        let path = self.folder.join(name);
        if let Some(kept) = self.kept.take() {
            if kept.path() == path && kept.is_untouched() {
                return Ok(kept);
            }
            remove(kept.path());
        }
        Directory::make(&path).or_else(|_| {
            // A task has made something of this name beside its own.
            remove(&path);
            Directory::make(&path)
        })
    }

    fn start(&mut self, start: &Start, own: &Path, streams: Vec<OwnedFd>) -> Result<Child, NotStarted> {
        let other = |error: io::Error| NotStarted::Other(error.to_string());
        let [input, output, errors]: [OwnedFd; STREAMS] =
            streams.try_into().map_err(|_| NotStarted::Other("its streams are missing".into()))?;
        let (name, arguments) = start.argv.split_first().ok_or(NotStarted::NoProgram)?;
        let workdir = start.workdir.as_deref().unwrap_or(own);
        // A name in a relative folder of `PATH` means one below the task's.
        let program = self.found.program(name, &start.env).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NotStarted::NoProgram,
            _ => other(error),
        })?;
        let mut command = Command::new(program);
        command
            .arg0(OsStr::from_bytes(name))
            .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
            .env_clear()
            .envs(start.env.iter().map(|(name, value)| (name, value)))
            .current_dir(workdir)
            .process_group(0)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors));
        spawn(&mut command, start.data).map_err(|error| match (error.kind(), rustix::fs::stat(workdir)) {
            (_, Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)) => NotStarted::NoWorkdir,
            (io::ErrorKind::PermissionDenied, _) if !may_enter(workdir) => NotStarted::ClosedWorkdir,
            (io::ErrorKind::NotFound, _) => NotStarted::NoProgram,
            _ => other(error),
        })
    }
}

/// Starts it with this limit of its data, if there is one. A child has the
/// limits of its parent: for a moment, they are this process's own.
fn spawn(command: &mut Command, data: Option<u64>) -> io::Result<Child> {
    let Some(data) = data else { return command.spawn() };
    let own = getrlimit(Resource::Data);
    setrlimit(Resource::Data, Rlimit { current: Some(data), ..own })?;
    let child = command.spawn();
    setrlimit(Resource::Data, own)?;
    let child = child?;
    let limit = Rlimit { current: Some(data), maximum: Some(data) };
    // An error: it has ended.
    let _ = prlimit(Some(Pid::from_child(&child)), Resource::Data, limit);
    Ok(child)
}

fn may_enter(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Waits until the process ends by itself, or must.
fn watch(child: &Child, node: &mut Node, lease: &Lease) -> io::Result<End> {
    let (mut seen, mut silent, mut looks) = (lease.read(), 0, 0);
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let mut both = [PollFd::new(&node.socket, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
        let woken = rustix::io::retry_on_intr(|| poll(&mut both, Some(&LOOK_EVERY)))?;
        let [asked, ended] = both.map(|one| !one.revents().is_empty());
        if ended {
            return Ok(End::Own);
        }
        if asked {
            return Ok(node.hear::<Order>()?.map_or(End::Gone, |_| End::Asked));
        }
        if woken > 0 {
            continue;
        }
        let now = lease.read();
        silent = if now == seen { silent + 1 } else { 0 };
        seen = now;
        if silent >= MAX_LOOKS {
            return Ok(End::Lapsed);
        }
        looks += 1;
        if looks % BURY_LOOKS == 0 {
            offspring::bury_except(Pid::from_child(child));
        }
    }
}

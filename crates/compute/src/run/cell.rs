//! A cell as its node sees it: a launcher, and what runs in it. Dropping it
//! ends both.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Pair;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::cells::Settings;
use crate::launch::confine::Confinement;
use crate::launch::group::{Group, Limits, MAX_PROCESSES};
use crate::launch::wire::{News, Order, STREAMS, Setup, Start};
use crate::launch::{Stamp, place, wire};

/// How long a launcher may take to shut itself in and tidy up.
const OPEN_LIMIT: Duration = Duration::from_mins(1);

/// How often the kernel is asked what it has killed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The allocator of a launcher takes what it needs and no reserve: while a task
/// starts whose data is limited, so is the launcher's.
const FRUGAL: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// See the module.
#[derive(Debug)]
pub(crate) struct Cell {
    channel: UnixStream,
    buffer: BytesMut,
    folder: PathBuf,
    /// Reaped when it has ended.
    _launcher: Child,
    /// Whether the directory of the last task is still being removed.
    unclean: bool,
    /// How many directories there have been: the name of the one that there is.
    directories: u64,
    /// What limits it.
    group: Option<Group>,
    /// What the fence was raised by.
    fence: Option<Stamp>,
}

/// Why there is no cell.
#[derive(Debug)]
pub(crate) enum NoCell {
    /// The launcher cannot shut itself in.
    Unfit(String),
    /// Something else.
    Failed(io::Error),
}

impl From<io::Error> for NoCell {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl std::fmt::Display for NoCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unfit(why) => write!(f, "the launcher of tasks cannot shut itself in: {why}"),
            Self::Failed(error) => write!(f, "no launcher of tasks: {error}"),
        }
    }
}

impl Cell {
    /// Starts a launcher and waits until it is shut in. It lets tasks run under
    /// this lease.
    pub(crate) async fn open(settings: &Settings, lease: BorrowedFd<'_>) -> Result<Self, NoCell> {
        let place = place::claim(&settings.folder, &settings.isolation)?;
        let (near, far) = Pair::pair()?;
        near.set_nonblocking(true)?;
        let fence = match &place.confinement {
            Confinement::Fence { hidden } => Some(Stamp::new(hidden)),
            _ => None,
        };
        let launcher = Command::new(&settings.program)
            .args(&settings.arguments)
            .env_clear()
            .envs(FRUGAL)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(far)))
            // It holds the lock of its place, too: the place is free when both
            // are gone.
            .stdout(Stdio::from(place.lock))
            .stderr(Stdio::null())
            // A key press at the terminal is for the node.
            .process_group(0)
            .spawn()?;
        let name = place.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let entered = settings.groups.as_ref().zip(launcher.id());
        let group = entered.map(|(groups, launcher)| groups.enter(name, launcher)).transpose()?;
        let processes = group.is_none().then(|| most_processes(&place.confinement));
        let mut cell = Self {
            channel: UnixStream::from_std(near)?,
            buffer: BytesMut::new(),
            folder: place.folder.clone(),
            _launcher: launcher,
            unclean: false,
            directories: 0,
            group,
            fence,
        };
        let open = settings.open.clone();
        let setup = Setup { confinement: place.confinement, open, folder: place.folder, processes };
        hand(&mut cell.channel, &wire::frame(&setup), &[lease]).await?;
        match timeout(OPEN_LIMIT, cell.news()).await {
            Ok(Ok(News::Ready)) => Ok(cell),
            Ok(Ok(News::Unfit(why))) => Err(NoCell::Unfit(why)),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(_)) | Err(_) => Err(io::Error::other("it does not say that it is ready").into()),
        }
    }

    /// The name of the directory of its next task: a new one, unless the last
    /// task has left its own as it was given to it.
    pub(crate) fn directory(&self) -> String {
        self.directories.to_string()
    }

    /// Where that is.
    pub(crate) fn own(&self) -> PathBuf {
        self.folder.join(self.directory())
    }

    /// Has a process started; [`Cell::news`] says how it ended, or that it was
    /// not started.
    pub(crate) async fn start(
        &mut self,
        mut start: Start,
        limits: Limits,
        streams: [BorrowedFd<'_>; STREAMS],
    ) -> io::Result<()> {
        match &mut self.group {
            Some(group) => group.limit(limits)?,
            None => start.data = limits.memory,
        }
        let frame = wire::frame(&Order::Start(Box::new(start)));
        if frame.len() > wire::MAX_FRAME_BYTES {
            return Err(io::Error::other("its arguments and environment are too long"));
        }
        hand(&mut self.channel, &frame, &streams).await
    }

    /// Waits until the kernel has killed a process of the task, but not all of
    /// it.
    pub(crate) fn torn(&self) -> impl Future<Output = ()> + Send + 'static {
        let watch = self.group.as_ref().and_then(Group::watch);
        async move {
            let Some(watch) = watch else { return std::future::pending().await };
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if watch.has_killed() {
                    return;
                }
            }
        }
    }

    /// Why the kernel has killed something of the task, if it has.
    pub(crate) fn killed(&mut self) -> Option<String> {
        self.group.as_mut()?.killed()
    }

    /// Kills what is left of a cell whose launcher is gone.
    pub(crate) fn end(self) {
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// Has what runs killed.
    pub(crate) async fn stop(&mut self) -> io::Result<()> {
        self.channel.write_all(&wire::frame(&Order::Stop)).await
    }

    /// The next that the launcher tells. Dropping the future loses nothing.
    pub(crate) async fn news(&mut self) -> io::Result<News> {
        loop {
            if let Some(news) = self.told()? {
                return Ok(news);
            }
            if self.channel.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the launcher has ended"));
            }
        }
    }

    /// What the launcher has told already.
    pub(crate) fn news_now(&mut self) -> io::Result<Option<News>> {
        match self.channel.try_read_buf(&mut self.buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        self.told()
    }

    fn told(&mut self) -> io::Result<Option<News>> {
        let news = wire::take::<News>(&mut self.buffer)?;
        match news {
            Some(News::Ended { clean, .. }) => {
                self.unclean = !clean;
                self.directories += u64::from(!clean);
            }
            Some(News::Clean) => self.unclean = false,
            _ => {}
        }
        Ok(news)
    }

    /// Whether it can take a task now; `None`: not any more.
    pub(super) fn is_free(&mut self) -> Option<bool> {
        match self.news_now() {
            Ok(None | Some(News::Clean)) => Some(!self.unclean),
            // Nobody was asked anything.
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// Whether the fence is still the right one.
    pub(super) fn is_current(&self) -> bool {
        self.fence.as_ref().is_none_or(Stamp::is_current)
    }
}

/// Most processes of a cell's user. One that others use, too, has theirs.
fn most_processes(confinement: &Confinement) -> u64 {
    if matches!(confinement, Confinement::User { alone: true, .. }) {
        return MAX_PROCESSES;
    }
    // "0.00 0.01 0.05 1/123 4567": all that there are now, after the slash.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let all = load.split('/').nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    all.unwrap_or(0).saturating_add(MAX_PROCESSES)
}

/// Writes a frame; the descriptors come with its first byte.
pub(crate) async fn hand(
    channel: &mut UnixStream,
    frame: &[u8],
    handed: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let shared = &*channel;
    let sent = shared.async_io(Interest::WRITABLE, || send(shared, frame, handed)).await?;
    channel.write_all(&frame[sent..]).await
}

/// The first bytes of a frame, with the descriptors.
fn send(channel: &UnixStream, frame: &[u8], handed: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(handed)) {
        return Err(io::Error::other("no room for its descriptors"));
    }
    Ok(sendmsg(channel, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL)?)
}

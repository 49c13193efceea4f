//! The node's side of the admin socket. One task per connection, at most
//! [`MAX_CONNECTIONS`] at once; each line is answered before the next is read.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::protocol::{Answer, Line, MAX_REQUEST_BYTES, Refusal, Request};

/// Admin connections that are served at once; more wait.
const MAX_CONNECTIONS: usize = 16;
/// A connection that says nothing for this long is closed.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// Longest path that fits a Unix socket address.
const MAX_SOCKET_PATH: usize = 100;

/// What answers admin requests: the node.
pub trait Control: Send + Sync + 'static {
    /// Answers one request.
    /// `who` asks: the audit log names it.
    fn answer<'a>(&'a self, who: &'a str, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>>;
}

/// A listening admin socket; dropping it stops serving and removes the file.
#[derive(Debug)]
pub struct AdminServer {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
        // Nothing to do about a failure: the next start replaces the file.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl AdminServer {
    /// Listens in `data` and serves on the current runtime. The caller holds
    /// the lock of the data directory: a socket that is there is a dead one.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(data: &Path, control: Arc<dyn Control>) -> io::Result<Self> {
        let path = data.join(super::SOCKET_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = with_short_path(&path, |short| UnixListener::bind(short))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(accept_loop(listener, control));
        Ok(Self { path, task })
    }
}

/// Calls `action` with a path to the same file that fits a socket address.
///
/// # Errors
/// What `action` returns, or the folder cannot be opened.
pub(super) fn with_short_path<T>(path: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return action(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return action(path) };
    let folder = std::fs::File::open(folder)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    action(&PathBuf::from(format!("/proc/self/fd/{number}")).join(name))
}

async fn accept_loop(listener: UnixListener, control: Arc<dyn Control>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if is_allowed(&stream) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    let _slot = slot;
                    if let Err(error) = serve(stream, control.as_ref()).await {
                        tracing::debug!(%error, "admin connection ended");
                    }
                });
            }
            Ok(_) => tracing::warn!("admin connection of another user refused"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Who asks over this socket, for the audit log.
const OPERATOR: &str = "operator";

/// The user who runs the node, and root. The file's mode says the same; this
/// check holds also when somebody changed the mode. Tasks of the node may run as
/// the same user, and are never allowed.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let Ok(peer) = stream.peer_cred() else { return false };
    (peer.uid() == own || peer.uid() == 0) && peer.pid().is_none_or(|peer| !descends_from_here(peer))
}

/// Whether this process has started it, or whoever has started it. So has
/// it one that has ended meanwhile: nobody can say.
fn descends_from_here(mut process: i32) -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if process == own {
        return false;
    }
    while process > 1 {
        let Some(parent) = parent(process) else { return true };
        if parent == own {
            return true;
        }
        process = parent;
    }
    false
}

/// The parent of a process; 0: it has none.
fn parent(process: i32) -> Option<i32> {
    if !Path::new("/proc/self/stat").exists() {
        return Some(0);
    }
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold anything, brackets too.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

async fn serve(stream: UnixStream, control: &dyn Control) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(MAX_REQUEST_BYTES as u64 + 1);
        let read = tokio::time::timeout(IDLE_LIMIT, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let too_long = line.len() > MAX_REQUEST_BYTES;
        let reply = if too_long {
            let message = format!("a request is at most {MAX_REQUEST_BYTES} bytes of JSON on one line");
            Line::Error(Refusal::new(message))
        } else {
            answer(&line, control).await
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        if too_long {
            return Ok(());
        }
    }
}

async fn answer(line: &[u8], control: &dyn Control) -> Line {
    match serde_json::from_slice::<Request>(line) {
        Ok(request) => match control.answer(OPERATOR, request).await {
            Ok(answer) => Line::Ok(answer),
            Err(refusal) => Line::Error(refusal),
        },
        Err(error) => Line::Error(
            Refusal::new(format!("not a request: {error}")).hint(r#"one line of JSON like {"do":"status"}"#),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::AdminClient;
    use super::super::protocol::TicketReport;
    use super::*;

    struct Fixed;

    impl Control for Fixed {
        fn answer<'a>(&'a self, _: &'a str, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
            Box::pin(async move {
                match request {
                    Request::Ticket { valid_s } => {
                        let ticket = "trine-x".to_owned();
                        Ok(Answer::Ticket(TicketReport { ticket, not_after_ms: valid_s }))
                    }
                    _ => Err(Refusal::new("no").hint("later")),
                }
            })
        }
    }

    #[tokio::test]
    async fn asks_and_answers_over_a_long_path() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = dir.path().join("a".repeat(120));
        std::fs::create_dir(&data).expect("made");
        let server = AdminServer::start(&data, Arc::new(Fixed)).expect("listens");
        let path = data.join(super::super::SOCKET_NAME);
        let mode = std::fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut client = AdminClient::connect(&path).expect("connects");
        let answer = client.ask(&Request::Ticket { valid_s: 7 }).await.expect("answers");
        assert!(matches!(answer, Answer::Ticket(report) if report.not_after_ms == 7));
        let refusal = client.ask(&Request::Status {}).await.expect_err("refuses");
        assert_eq!((refusal.what(), refusal.advice()), ("no", Some("later")));
        drop(server);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn bad_lines_get_a_clear_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let _server = AdminServer::start(dir.path(), Arc::new(Fixed)).expect("listens");
        let stream = UnixStream::connect(dir.path().join(super::super::SOCKET_NAME)).await.expect("connects");
        let mut stream = BufReader::new(stream);
        let mut reply = String::new();
        stream.write_all(b"{\"do\":\"dance\"}\n").await.expect("sent");
        stream.read_line(&mut reply).await.expect("answers");
        assert!(reply.contains("dance") && reply.contains("status"), "{reply}");
        stream.write_all(&vec![b'x'; MAX_REQUEST_BYTES + 1]).await.expect("sent");
        reply.clear();
        stream.read_line(&mut reply).await.expect("answers");
        assert!(reply.contains("at most"), "{reply}");
    }
}

//! A small NATS client for the demo: one TCP connection, no headers, binary
//! safe. Its connecting is timed, because that is what the demo shows. The
//! product's own codec is a server's and lives in the mesh room.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::failure::Failure;

/// How long a connection, or anything that must come, may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest line of the protocol that is read, in bytes.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// Longest message that is read, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
const HELLO: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false,\"lang\":\"trine\"}\r\nPING\r\n";

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Where an answer is wanted.
    pub reply: Option<String>,
    /// What it says.
    pub payload: Vec<u8>,
}

/// One connection to a NATS door.
#[derive(Debug)]
pub struct Messenger {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    subscriptions: u32,
}

impl Messenger {
    /// Connects and waits until the door has taken the connection; also how
    /// long that took.
    ///
    /// # Errors
    /// Nobody listens there, or it is no NATS door.
    pub async fn connect(address: SocketAddr) -> Result<(Self, Duration), Failure> {
        let began = Instant::now();
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut this = Self { address, stream: BufReader::new(stream), subscriptions: 0 };
            this.write(HELLO).await?;
            this.pong().await?;
            Ok(this)
        };
        let this = in_time(connecting).await.map_err(|error| broken(address, &error))?;
        Ok((this, began.elapsed()))
    }

    /// Subscribes, and waits until the door knows.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn subscribe(&mut self, filter: &str) -> Result<(), Failure> {
        self.subscriptions += 1;
        let line = format!("SUB {filter} {}\r\nPING\r\n", self.subscriptions);
        let subscribing = async {
            self.write(line.as_bytes()).await?;
            self.pong().await
        };
        in_time(subscribing).await.map_err(|error| broken(self.address, &error))
    }

    /// Publishes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) -> Result<(), Failure> {
        let mut bytes = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        in_time(self.write(&bytes)).await.map_err(|error| broken(self.address, &error))
    }

    /// The next message; `None`: none came within `limit`.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<Message>, Failure> {
        match tokio::time::timeout(limit, self.read()).await {
            Ok(Ok(message)) => Ok(Some(message)),
            Ok(Err(error)) => Err(broken(self.address, &error)),
            Err(_) => Ok(None),
        }
    }

    /// The next message, whenever it comes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn wait(&mut self) -> Result<Message, Failure> {
        self.read().await.map_err(|error| broken(self.address, &error))
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if (&mut self.stream).take(MAX_LINE_BYTES).read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.starts_with("PING") {
            self.write(b"PONG\r\n").await?;
        }
        Ok(line)
    }

    async fn pong(&mut self) -> io::Result<()> {
        loop {
            let line = self.line().await?;
            match line.split_whitespace().next() {
                Some("PONG") => return Ok(()),
                Some("-ERR") => return Err(io::Error::other(line)),
                _ => {}
            }
        }
    }

    async fn read(&mut self) -> io::Result<Message> {
        loop {
            let line = self.line().await?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let (subject, reply, size) = match words[..] {
                ["MSG", subject, _, size] => (subject, None, size),
                ["MSG", subject, _, reply, size] => (subject, Some(reply.to_owned()), size),
                ["-ERR", ..] => return Err(io::Error::other(line)),
                _ => continue,
            };
            let size = size.parse().ok().filter(|size| *size <= MAX_MESSAGE_BYTES);
            let size = size.ok_or_else(|| io::Error::other(line.clone()))?;
            let mut payload = vec![0; size + 2];
            self.stream.read_exact(&mut payload).await?;
            payload.truncate(size);
            return Ok(Message { subject: subject.to_owned(), reply, payload });
        }
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn broken(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::new(format!("the NATS door {address}: {error}")).hint("look at the node's log")
}

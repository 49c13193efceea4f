//! A small Redis client for the command line and the demo: RESP2 over one TCP
//! connection, plain or encrypted, pipelining, binary-safe. The product's own codec is a server's
//! and lives in the database room; `tests/` use it against foreign clients.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use trine_front::tls::TlsDialler;

/// Largest reply that is read, in bytes: a value and its envelope.
const MAX_REPLY_BYTES: usize = trine_types::limits::MAX_COMMAND_BYTES;
/// Deepest nesting of arrays that is read.
const MAX_DEPTH: u8 = 8;
/// How long a connection may take to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `+OK`
    Simple(String),
    /// `-ERR ...`
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3`
    Bulk(Bytes),
    /// `$-1`
    Nil,
    /// `*2`
    Array(Vec<Value>),
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed: commands sent and not answered may or may not
    /// have been executed.
    #[error("connection to {address} failed: {source}")]
    Broken {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The other side does not speak RESP.
    #[error("{address} sent something that is no Redis reply: {what}")]
    Malformed {
        /// Where to.
        address: SocketAddr,
        /// What was wrong.
        what: &'static str,
    },
}

/// What bytes go over.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Duplex for T {}

/// One connection to a Redis door.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    stream: Box<dyn Duplex>,
    out: BytesMut,
    read: BytesMut,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or the connection takes too long.
    pub async fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        Ok(Self::over(address, Box::new(dial(address).await?)))
    }

    /// Connects to an encrypted door, which proves that it is `name`, or that
    /// it is at `address`.
    ///
    /// # Errors
    /// As [`Client::connect`], or the door cannot prove it.
    pub async fn connect_encrypted(
        address: SocketAddr,
        dialler: &TlsDialler,
        name: Option<&str>,
    ) -> Result<Self, ClientError> {
        let encrypted = dialler.dial(dial(address).await?, name, address.ip()).await;
        let broken = |error| ClientError::Broken { address, source: io::Error::other(error) };
        Ok(Self::over(address, Box::new(encrypted.map_err(broken)?)))
    }

    fn over(address: SocketAddr, stream: Box<dyn Duplex>) -> Self {
        Self { address, stream, out: BytesMut::new(), read: BytesMut::new() }
    }

    /// Puts a command into the output buffer.
    pub fn queue(&mut self, args: &[&[u8]]) {
        self.out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
        for arg in args {
            self.out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            self.out.extend_from_slice(arg);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Bytes that are queued and not sent.
    pub fn queued_bytes(&self) -> usize {
        self.out.len()
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        let writing = async {
            self.stream.write_all_buf(&mut self.out).await?;
            self.stream.flush().await
        };
        writing.await.map_err(|source| ClientError::Broken { address: self.address, source })
    }

    /// The next reply.
    ///
    /// # Errors
    /// The connection broke, or the reply is malformed or too large.
    pub async fn reply(&mut self) -> Result<Value, ClientError> {
        let address = self.address;
        loop {
            let malformed = |what| ClientError::Malformed { address, what };
            if let Some((value, used)) = parse(&self.read, MAX_DEPTH).map_err(malformed)? {
                self.read.advance(used);
                return Ok(value);
            }
            if self.read.len() > MAX_REPLY_BYTES {
                return Err(malformed("a reply that is too large"));
            }
            self.read.reserve(16 * 1024);
            let read = self.stream.read_buf(&mut self.read).await;
            let broken = |source| ClientError::Broken { address, source };
            if read.map_err(broken)? == 0 {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The error of this connection for a failure that the caller saw, like
    /// an answer that took too long. The connection must not be used again:
    /// the late answer would be taken for the next one.
    pub fn broken(&self, kind: io::ErrorKind) -> ClientError {
        ClientError::Broken { address: self.address, source: kind.into() }
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub async fn command(&mut self, args: &[&[u8]]) -> Result<Value, ClientError> {
        self.queue(args);
        self.flush().await?;
        self.reply().await
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, ClientError> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address));
    match connecting.await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
    .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
    .map_err(|source| ClientError::Broken { address, source })
}

type Parsed = Option<(Value, usize)>;

/// Parses one value at the start of `bytes`; `None`: more bytes are needed.
fn parse(bytes: &[u8], depth: u8) -> Result<Parsed, &'static str> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (line, after) = (&bytes[..end], end + 2);
    let Some((&kind, rest)) = line.split_first() else { return Err("an empty line") };
    let text = || String::from_utf8_lossy(rest).into_owned();
    match kind {
        b'+' => Ok(Some((Value::Simple(text()), after))),
        b'-' => Ok(Some((Value::Error(text()), after))),
        b':' => Ok(Some((Value::Integer(number(rest)?), after))),
        b'$' => parse_bulk(bytes, number(rest)?, after),
        b'*' => parse_array(bytes, number(rest)?, after, depth),
        _ => Err("an unknown type"),
    }
}

fn parse_bulk(bytes: &[u8], length: i64, after: usize) -> Result<Parsed, &'static str> {
    if length == -1 {
        return Ok(Some((Value::Nil, after)));
    }
    let length = usize::try_from(length).map_err(|_| "a negative length")?;
    if length > MAX_REPLY_BYTES {
        return Err("a value that is too large");
    }
    match bytes.get(after..after + length + 2) {
        Some(body) if body.ends_with(b"\r\n") => {
            Ok(Some((Value::Bulk(Bytes::copy_from_slice(&body[..length])), after + length + 2)))
        }
        Some(_) => Err("a value without its end"),
        None => Ok(None),
    }
}

fn parse_array(bytes: &[u8], count: i64, mut after: usize, depth: u8) -> Result<Parsed, &'static str> {
    if count == -1 {
        return Ok(Some((Value::Nil, after)));
    }
    let count = usize::try_from(count).map_err(|_| "a negative count")?;
    let depth = depth.checked_sub(1).ok_or("arrays nested too deep")?;
    let mut items = Vec::new();
    for _ in 0..count {
        let Some((item, used)) = parse(&bytes[after..], depth)? else { return Ok(None) };
        items.push(item);
        after += used;
    }
    Ok(Some((Value::Array(items), after)))
}

fn number(digits: &[u8]) -> Result<i64, &'static str> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or("no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"*5\r\n+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n*2\r\n$-1\r\n$0\r\n\r\n";

    #[test]
    fn every_kind_of_reply_parses_and_every_prefix_waits() {
        let (value, used) = parse(SAMPLE, MAX_DEPTH).expect("well-formed").expect("complete");
        assert_eq!(used, SAMPLE.len());
        let expected = Value::Array(vec![
            Value::Simple("OK".into()),
            Value::Error("ERR no".into()),
            Value::Integer(-7),
            Value::Bulk(Bytes::from_static(b"a\r\n")),
            Value::Array(vec![Value::Nil, Value::Bulk(Bytes::new())]),
        ]);
        assert_eq!(value, expected);
        for cut in 0..SAMPLE.len() {
            assert_eq!(parse(&SAMPLE[..cut], MAX_DEPTH), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        for bad in ["\r\n", "!x\r\n", "$-2\r\n", "*-2\r\n", ":x\r\n", "$1\r\nabc\r\n", "$99999999999\r\n"] {
            assert!(parse(bad.as_bytes(), MAX_DEPTH).is_err(), "{bad:?}");
        }
        assert!(parse(&b"*1\r\n".repeat(100), MAX_DEPTH).is_err());
    }
}

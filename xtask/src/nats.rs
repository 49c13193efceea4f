//! A small blocking client of NATS's protocol, without retries and without
//! anything that the product is made of: what it was told is what it knows.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

/// Longest message that we take.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// What we say about ourselves.
const HELLO: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
    \"lang\":\"xtask\",\"version\":\"1\"}\r\nPING\r\n";
/// How the headers begin that say that nobody answers.
const NOBODY: &[u8] = b"NATS/1.0 503";

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Message {
        subject: String,
        reply: Option<String>,
        payload: Vec<u8>,
    },
    /// Nobody is known who would answer a request.
    Nobody,
    Pong,
    Error(String),
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    subscriptions: u64,
}

impl Client {
    /// Connects and waits until the server has taken it; every wait for the
    /// server ends at `patience`.
    pub(crate) fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut client = Self { stream: BufReader::with_capacity(64 * 1024, stream), subscriptions: 0 };
        let info = client.line()?;
        if !info.starts_with("INFO ") {
            return Err(unexpected(&info));
        }
        client.write(HELLO)?;
        match client.next()? {
            Heard::Pong => Ok(client),
            other => Err(unexpected(&format!("{other:?}"))),
        }
    }

    /// Connects to a port of this machine.
    pub(crate) fn local(port: u16) -> io::Result<Self> {
        Self::open(SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(10))
    }

    /// Subscribes to a filter.
    pub(crate) fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        self.subscriptions += 1;
        let line = format!("SUB {filter} {}\r\n", self.subscriptions);
        self.write(line.as_bytes())
    }

    /// Publishes one message.
    pub(crate) fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) -> io::Result<()> {
        let mut bytes = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.write(&bytes)
    }

    /// Waits until the server has taken everything that was sent. Messages
    /// that come meanwhile are dropped.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write(b"PING\r\n")?;
        loop {
            match self.next()? {
                Heard::Pong => return Ok(()),
                Heard::Message { .. } | Heard::Nobody => {}
                Heard::Error(error) => return Err(unexpected(&error)),
            }
        }
    }

    /// The next thing that the server says; its own questions are answered.
    pub(crate) fn next(&mut self) -> io::Result<Heard> {
        loop {
            let line = self.line()?;
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match word {
                "MSG" => return self.message(rest, false),
                "HMSG" => return self.message(rest, true),
                "PONG" => return Ok(Heard::Pong),
                "-ERR" => return Ok(Heard::Error(rest.trim_matches('\'').to_owned())),
                "PING" => self.write(b"PONG\r\n")?,
                "+OK" | "INFO" => {}
                _ => return Err(unexpected(&line)),
            }
        }
    }

    fn message(&mut self, rest: &str, headed: bool) -> io::Result<Heard> {
        let mut words: Vec<&str> = rest.split_whitespace().collect();
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<usize>().ok());
        let size = number(words.pop()).filter(|size| *size <= MAX_MESSAGE).ok_or_else(|| unexpected(rest))?;
        let head = if headed { number(words.pop()).ok_or_else(|| unexpected(rest))? } else { 0 };
        let (subject, reply) = match words[..] {
            [subject, _] => (subject, None),
            [subject, _, reply] => (subject, Some(reply.to_owned())),
            _ => return Err(unexpected(rest)),
        };
        let mut payload = vec![0; size + 2];
        self.stream.read_exact(&mut payload)?;
        if payload[..head.min(size)].starts_with(NOBODY) {
            return Ok(Heard::Nobody);
        }
        payload.truncate(size);
        payload.drain(..head.min(size));
        Ok(Heard::Message { subject: subject.to_owned(), reply, payload })
    }

    /// Whether somebody is known who wants `subject`: publishes a request to
    /// it. The answers would go to `inbox`, which this client subscribed to.
    pub(crate) fn is_wanted(&mut self, subject: &str, inbox: &str) -> io::Result<bool> {
        self.publish(subject, inbox, b"?")?;
        self.write(b"PING\r\n")?;
        let mut wanted = true;
        loop {
            match self.next()? {
                Heard::Pong => return Ok(wanted),
                Heard::Nobody => wanted = false,
                Heard::Message { .. } => {}
                Heard::Error(error) => return Err(unexpected(&error)),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Drops the connection as a process that is killed does: without a
    /// goodbye, and without leaving a port behind that waits for it.
    pub(crate) fn drop_hard(self) -> io::Result<()> {
        Ok(set_socket_linger(self.stream.get_ref(), Some(Duration::ZERO))?)
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server said: {what}"))
}

/// Two connections, one asking and one answering: how long an answer takes.
pub(crate) struct Pair {
    asking: Client,
    answering: Client,
    subject: String,
}

impl Pair {
    /// Asks at one port, answers at another. Ready once an answer came.
    pub(crate) fn open(asking: u16, answering: u16, name: &str) -> io::Result<Self> {
        let (mut asking, mut answering) = (Client::local(asking)?, Client::local(answering)?);
        let subject = format!("pair.{name}");
        answering.subscribe(&subject)?;
        answering.flush()?;
        asking.subscribe(&format!("{subject}.answer"))?;
        asking.flush()?;
        Ok(Self { asking, answering, subject })
    }

    /// One request and its answer.
    pub(crate) fn ask(&mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        let answer = format!("{}.answer", self.subject);
        self.asking.publish(&self.subject, &answer, b"question")?;
        let Heard::Message { reply: Some(reply), payload, .. } = self.answering.next()? else {
            return Err(unexpected("no question"));
        };
        self.answering.publish(&reply, "", &payload)?;
        match self.asking.next()? {
            Heard::Message { payload, .. } if payload == b"question" => Ok(begin.elapsed()),
            other => Err(unexpected(&format!("{other:?}"))),
        }
    }
}

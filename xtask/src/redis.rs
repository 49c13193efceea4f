//! A small blocking client of Redis's protocol, without retries and without
//! anything that the product is made of: what it was told is what it knows.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest reply that we take.
const MAX_BULK: usize = 64 * 1024 * 1024;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Self>),
}

impl Reply {
    /// The number, if it is one, as integer or as text.
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Bulk(Some(text)) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text == "OK")
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; every wait for a reply ends at `patience`.
    pub(crate) fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Connects to a port of this machine.
    pub(crate) fn local(port: u16) -> io::Result<Self> {
        Self::open(SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(10))
    }

    /// Our own port, as the server sees it.
    pub(crate) fn own_port(&self) -> io::Result<u16> {
        Ok(self.stream.get_ref().local_addr()?.port())
    }

    /// One command, one reply.
    pub(crate) fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.send(words)?;
        self.reply()
    }

    /// Many commands at once, as many replies.
    pub(crate) fn pipeline(&mut self, commands: &[Vec<String>]) -> io::Result<Vec<Reply>> {
        let mut bytes = Vec::new();
        for command in commands {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            encode(&words, &mut bytes);
        }
        self.stream.get_mut().write_all(&bytes)?;
        commands.iter().map(|_| self.reply()).collect()
    }

    pub(crate) fn send(&mut self, words: &[&str]) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(words, &mut bytes);
        self.stream.get_mut().write_all(&bytes)
    }

    /// Raw bytes, well formed or not.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {line:?}"));
        let text = line.trim_end_matches(['\r', '\n']);
        let rest = text.get(1..).ok_or_else(wrong)?;
        let length = || rest.parse::<i64>().map_err(|_| wrong());
        match text.as_bytes()[0] {
            b'+' => Ok(Reply::Simple(rest.to_owned())),
            b'-' => Ok(Reply::Error(rest.to_owned())),
            b':' => Ok(Reply::Integer(length()?)),
            b'$' => {
                let Ok(length) = usize::try_from(length()?) else { return Ok(Reply::Bulk(None)) };
                if length > MAX_BULK {
                    return Err(wrong());
                }
                let mut body = vec![0; length + 2];
                self.stream.read_exact(&mut body)?;
                body.truncate(length);
                Ok(Reply::Bulk(Some(body)))
            }
            b'*' => (0..length()?).map(|_| self.reply()).collect::<io::Result<_>>().map(Reply::Array),
            _ => Err(wrong()),
        }
    }
}

fn encode(words: &[&str], bytes: &mut Vec<u8>) {
    bytes.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(word.bytes());
        bytes.extend(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::{Connection, Reply};

    #[test]
    fn replies_are_read_as_written() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 14];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"*4\r\n+OK\r\n:7\r\n$3\r\n1\r\n\r\n$-1\r\n-ERR no\r\n").unwrap();
            request
        });
        let mut connection = Connection::local(port).unwrap();
        let array = connection.call(&["PING"]).unwrap();
        let Reply::Array(replies) = array else { panic!("{array:?}") };
        assert!(replies[0].is_ok());
        assert_eq!(replies[1].number(), Some(7));
        assert_eq!(replies[2], Reply::Bulk(Some(b"1\r\n".to_vec())));
        assert_eq!(replies[3], Reply::Bulk(None));
        assert_eq!(connection.reply().unwrap(), Reply::Error("ERR no".to_owned()));
        assert_eq!(&server.join().unwrap(), b"*1\r\n$4\r\nPING\r\n");
    }
}

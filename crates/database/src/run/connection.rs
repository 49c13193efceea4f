//! One connection: read, begin commands, write replies in order.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use trine_front::{Accepted, Stream, TlsAcceptor};

use super::pipeline::Pipeline;
use crate::handle::{Begun, Database};
use crate::plan::Reply;
use crate::resp::Value;
use crate::resp::request::{ProtocolError, RequestParser};
use crate::session::ConnectionState;

/// Room made for input that may come: small, since most connections idle.
const READ_BYTES: usize = 4 * 1024;

/// Room made for input after a read that filled it.
const BUSY_READ_BYTES: usize = 64 * 1024;

/// Replies collected before they are written. One reply may exceed it.
const OUTPUT_BYTES: usize = 256 * 1024;

/// How long, and how much, a connection that sent nonsense is read to its end,
/// so that the error reaches it before the reset does.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// Whether a stream holds bytes that were written to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// A plain one never does.
    Never,
    /// An encrypted one, not now.
    Nothing,
    /// It may: the socket did not take all.
    Something,
}

struct Connection {
    database: Database,
    state: ConnectionState,
    parser: RequestParser,
    pipeline: Pipeline,
    input: BytesMut,
    output: BytesMut,
    /// No more commands are taken.
    closing: bool,
    /// What came was no request; the rest is thrown away.
    nonsense: bool,
    /// The last read filled its room.
    busy: bool,
    kept: Kept,
}

/// Serves one connection until it ends.
pub(super) async fn run(database: Database, accepted: Accepted, tls: Option<TlsAcceptor>) {
    let Accepted { stream, peer, local, permit } = accepted;
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%peer, %error, "no connection"),
        },
    };
    let newcomer = database.doorkeeper().newcomer(peer.ip());
    let state = database.accept(peer.to_string(), local.to_string(), newcomer);
    let mut connection = Connection {
        pipeline: Pipeline::new(database.clone()),
        database,
        state,
        parser: RequestParser::default(),
        input: BytesMut::new(),
        output: BytesMut::new(),
        closing: false,
        nonsense: false,
        busy: false,
        kept: if stream.is_encrypted() { Kept::Nothing } else { Kept::Never },
    };
    let ended = match stream {
        Stream::Plain(mut stream) => {
            let (reader, writer) = stream.split();
            connection.serve_and_linger(reader, writer).await
        }
        Stream::Tls(stream) => {
            let (reader, writer) = tokio::io::split(stream);
            connection.serve_and_linger(reader, writer).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection broke");
    }
    drop(permit);
}

impl Connection {
    async fn serve_and_linger(
        &mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        self.serve(&mut reader, &mut writer).await?;
        if self.nonsense {
            linger(&mut reader, &mut writer).await;
        }
        Ok(())
    }

    async fn serve(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut shutdown = self.database.shutdown();
        let client = self.state.client().clone();
        // Made once: to wait for them anew for each command would cost four
        // turns at locks that all connections share.
        let mut killed = pin!(client.killed());
        let mut told = false;
        let mut down = pin!(async { shutdown.wait_for(|down| *down).await.is_ok() });
        loop {
            let unread = self.begin_and_drain();
            if self.closing && self.pipeline.is_empty() && self.output.is_empty() {
                return writer.flush().await;
            }
            let reads = !self.closing && !unread && self.pipeline.has_room();
            if reads {
                let room = if self.busy { BUSY_READ_BYTES } else { READ_BYTES };
                self.input.reserve(room.max(self.parser.wanted(&self.input)));
            }
            tokio::select! {
                biased;
                () = killed.as_mut() => return Ok(()),
                _ = down.as_mut(), if !told && !self.closing => (self.closing, told) = (true, true),
                finished = self.pipeline.next() => {
                    self.pipeline.finish(finished);
                    while let Some(finished) = self.pipeline.next().now_or_never() {
                        self.pipeline.finish(finished);
                    }
                }
                pushed = push(writer, &mut self.output), if self.kept == Kept::Something || !self.output.is_empty() => {
                    let wrote = pushed?;
                    if self.kept != Kept::Never {
                        self.kept = if wrote { Kept::Something } else { Kept::Nothing };
                    }
                }
                read = reader.read_buf(&mut self.input), if reads => {
                    let read = read?;
                    self.closing = read == 0;
                    self.busy = read >= READ_BYTES;
                    client.heard_at(self.database.now_ms());
                }
            }
        }
    }

    /// Begins commands and collects replies as far as both go. Says whether
    /// input is left that was not looked at.
    fn begin_and_drain(&mut self) -> bool {
        loop {
            let unread = self.begin_commands();
            self.pipeline.drain(&mut self.output, OUTPUT_BYTES);
            if !unread || !self.pipeline.has_room() || self.output.len() >= OUTPUT_BYTES {
                return unread;
            }
        }
    }

    /// Begins the commands that have arrived, as many as may be in flight.
    /// Says whether it stopped because no more may be in flight.
    fn begin_commands(&mut self) -> bool {
        let mut taken = 0;
        let mut exhausted = false;
        while !self.closing && !exhausted && self.pipeline.has_room() {
            match self.parser.next(&mut self.input) {
                Ok(Some(argv)) => {
                    taken += 1;
                    if speaks_http(&argv) {
                        self.drop_http();
                        break;
                    }
                    let begun = self.database.begin(&mut self.state, &argv);
                    let wanted = self.state.wants_reply();
                    self.pipeline.push(begun, self.state.protocol, wanted);
                    self.closing |= self.state.closing;
                }
                Ok(None) => exhausted = true,
                Err(error) => self.refuse(&error),
            }
        }
        if taken > 0 {
            self.database.measures().took(taken);
        }
        if self.input.is_empty() && self.input.capacity() > BUSY_READ_BYTES {
            // What a large request needed is given back.
            self.input = BytesMut::new();
        }
        !exhausted && !self.closing
    }

    /// A web page can make a browser send what it likes to a port of this
    /// machine: as in Redis, nothing after it is executed or answered.
    fn drop_http(&mut self) {
        let peer = &self.state.client().address;
        tracing::warn!(%peer, "possible attack: HTTP on the Redis port; the connection is closed");
        self.state.client().kill();
        self.closing = true;
    }

    fn refuse(&mut self, error: &ProtocolError) {
        let reply = Reply::Value(Value::error(error.to_string()));
        self.pipeline.push(Begun::Done(reply), self.state.protocol, true);
        (self.closing, self.nonsense) = (true, true);
    }
}

/// Whether this is the first line or the `Host:` header of a HTTP request.
fn speaks_http(argv: &[Bytes]) -> bool {
    argv.first().is_some_and(|name| match name.len() {
        4 => name.eq_ignore_ascii_case(b"post"),
        5 => name.eq_ignore_ascii_case(b"host:"),
        _ => false,
    })
}

/// Writes what is there, and says so; without anything to write, has the
/// stream send what it kept.
async fn push(writer: &mut (impl AsyncWrite + Unpin), output: &mut BytesMut) -> io::Result<bool> {
    if output.is_empty() {
        writer.flush().await?;
        return Ok(false);
    }
    // `write_buf` would write a vector of one, which costs the kernel more.
    match writer.write(output).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        wrote => {
            output.advance(wrote);
            Ok(true)
        }
    }
}

/// Says that nothing more comes, and reads what the other side still sends:
/// closing with unread input would reset the connection, and the error that
/// was just written could be lost.
async fn linger(reader: &mut (impl AsyncRead + Unpin), writer: &mut (impl AsyncWrite + Unpin)) {
    let drain = async {
        writer.shutdown().await?;
        let mut rest = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match reader.read(&mut rest).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // Whether it ends by the limit, by the time or by itself is the same.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

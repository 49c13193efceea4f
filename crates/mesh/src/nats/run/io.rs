//! The socket's side of a connection: big reads into one buffer that fits the
//! traffic, big writes of whatever waits in the outbox, both without waiting
//! for each other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::nats::client::Client;

/// Input buffer of an idle connection.
const MIN_READ_BYTES: usize = 4 * 1024;

/// Largest one, unless a single message needs more.
const MAX_READ_BYTES: usize = 256 * 1024;

/// Reads in a row that leave most of the buffer empty before it shrinks.
const SMALL_READS: u32 = 64;

/// What has come and was not looked at yet.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Looking again makes sense once there are so many bytes.
    wanted: usize,
    small: u32,
}

impl Default for Input {
    fn default() -> Self {
        Self { buffer: vec![0; MIN_READ_BYTES], start: 0, end: 0, wanted: 1, small: 0 }
    }
}

impl Input {
    /// What has come.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether there is enough to look at.
    pub(super) fn is_ready(&self) -> bool {
        self.end - self.start >= self.wanted
    }

    /// Notes that `taken` bytes were worked on, and how many there must be
    /// for another look.
    pub(super) fn took(&mut self, taken: usize, wanted: usize) {
        self.start += taken;
        self.wanted = wanted;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        (self.start, self.end, self.wanted) = (0, 0, 1);
    }

    /// Makes room at the end: at least for what is wanted.
    fn make_room(&mut self) {
        let held = self.end - self.start;
        let room = self.buffer.len() - self.start;
        if room >= self.wanted.max(held + MIN_READ_BYTES / 2) {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, held);
        let needed = self.wanted.max(held + MIN_READ_BYTES);
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
    }

    /// Fits the buffer to what a read brought.
    fn learn(&mut self, read: usize) {
        let size = self.buffer.len();
        if self.end == size && size < MAX_READ_BYTES {
            self.buffer.resize(size * 2, 0);
        }
        self.small = if read < size / 4 { self.small + 1 } else { 0 };
        if self.small >= SMALL_READS && size > MIN_READ_BYTES && self.end <= size / 2 {
            self.buffer.truncate(size / 2);
            self.buffer.shrink_to_fit();
            self.small = 0;
        }
    }

    /// Reads once; how many bytes came, 0 at the end.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut into = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut into))?;
        let read = into.filled().len();
        self.end += read;
        self.learn(read);
        Poll::Ready(Ok(read))
    }
}

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl Output {
    /// Writes as much as goes. Ready once the outbox is closed and everything
    /// has left.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        client: &Client,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.written < self.buffer.len() {
                let rest = &self.buffer[self.written..];
                let wrote = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
                if wrote == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += wrote;
                client.outbox.brake().moved();
                self.unflushed = true;
                continue;
            }
            self.written = 0;
            match client.outbox.poll_take(cx, &mut self.buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    ready!(self.poll_flush(stream, cx))?;
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    ready!(self.poll_flush(stream, cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// An encrypted stream keeps back what its socket did not take.
    fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn read(input: &mut Input, mut from: &[u8]) -> usize {
        match input.poll_read(&mut from, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(read)) => read,
            other => panic!("memory is always ready: {other:?}"),
        }
    }

    #[test]
    fn it_grows_with_traffic_and_shrinks_without() {
        let mut input = Input::default();
        for _ in 0..10 {
            read(&mut input, &vec![7; MAX_READ_BYTES * 2]);
            input.took(input.bytes().len(), 1);
        }
        assert_eq!(input.buffer.len(), MAX_READ_BYTES);
        for _ in 0..SMALL_READS * 8 {
            read(&mut input, b"x");
            input.took(1, 1);
        }
        assert_eq!(input.buffer.len(), MIN_READ_BYTES);
    }

    #[test]
    fn a_message_larger_than_the_buffer_fits_in() {
        let mut input = Input::default();
        let text: Vec<u8> = (0..=255).cycle().take(MAX_READ_BYTES * 3).collect();
        read(&mut input, &text[..10]);
        input.took(4, text.len() - 4);
        let mut rest = &text[10..];
        while !input.is_ready() {
            let took = read(&mut input, rest);
            rest = &rest[took..];
        }
        assert_eq!(input.bytes(), &text[4..]);
    }
}

//! HTTP/1.1 over one connection that is kept: a head, a `Content-Length`, a body.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longer messages than any of the benchmarks sends would be a mistake.
const MESSAGE_MAX: usize = 1024 * 1024;

/// One end of a connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the head and the body of the last message end.
    ends: (usize, usize),
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8192), ends: (0, 0) })
    }

    /// Reads the next message; `false` where the other end has closed instead.
    pub(crate) async fn read(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.ends.1);
        self.ends = (0, 0);
        loop {
            if let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = head + 4;
                let end = head + length(self.buffer.get(..head).unwrap_or_default());
                while self.buffer.len() < end {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                self.ends = (head, end);
                return Ok(true);
            }
            if self.buffer.len() > MESSAGE_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(false);
            }
        }
    }

    /// The head of the last message.
    pub(crate) fn head(&self) -> &[u8] {
        self.buffer.get(..self.ends.0).unwrap_or_default()
    }

    /// The body of the last message.
    pub(crate) fn body(&self) -> &[u8] {
        self.buffer.get(self.ends.0..self.ends.1).unwrap_or_default()
    }

    /// The status of the last message, if it is an answer.
    pub(crate) fn status(&self) -> u16 {
        let code = self.head().get(9..12).and_then(|code| std::str::from_utf8(code).ok());
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

fn length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    let field = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = field.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

//! Writes at a constant rate, on one thread: an open loop, whose writes come at their times however long the answers take.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bench_common::now_us;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    payloads::{Id, find, id},
    users::Users,
};

/// Maximum time for what is under way at the end.
const LIMIT: Duration = Duration::from_secs(30);

/// Characters of a message's content.
const CONTENT: usize = 100;

/// Writes to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) users: Users,
    /// Writes a second; `None` for as many as the connections take.
    pub(crate) rate: Option<u32>,
    pub(crate) amount: Amount,
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    For(Duration),
    Writes(u64),
}

/// Writes that were answered.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) answers: Vec<Answer>,
    pub(crate) failed: usize,
    pub(crate) took: Duration,
}

/// A 201. Times are in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) id: Id,
    pub(crate) at_us: u64,
    /// Time from the moment when the write was due.
    pub(crate) after_us: u64,
}

struct Connection {
    stream: TcpStream,
    due: Instant,
    response: Vec<u8>,
}

struct Writer {
    plan: Plan,
    poll: Poll,
    connections: Vec<Connection>,
    free: VecDeque<usize>,
    begun: Instant,
    sent: u64,
    written: Written,
}

/// Writes, and waits for all answers.
pub(crate) async fn write(plan: Plan) -> Result<Written> {
    tokio::task::spawn_blocking(move || Writer::connect(plan)?.run()).await?
}

impl Writer {
    fn connect(plan: Plan) -> Result<Self> {
        let poll = Poll::new()?;
        let begun = Instant::now();
        let mut connections = Vec::new();
        for index in 0..plan.connections {
            let stream = std::net::TcpStream::connect(plan.target)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            connections.push(Connection { stream, due: begun, response: Vec::new() });
        }
        let free = (0..plan.connections).collect();
        Ok(Self { plan, poll, connections, free, begun, sent: 0, written: Written::default() })
    }

    fn run(mut self) -> Result<Written> {
        let mut events = Events::with_capacity(1024);
        let mut ended = None;
        loop {
            let is_over = match self.plan.amount {
                Amount::For(time) => self.begun.elapsed() >= time,
                Amount::Writes(count) => self.sent >= count,
            };
            if !is_over {
                self.send_due()?;
            } else if self.free.len() == self.connections.len() {
                break;
            } else if ended.get_or_insert_with(Instant::now).elapsed() > LIMIT {
                bail!("writes have had no answer for {LIMIT:?}");
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(1))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                self.read(event.token().0)?;
            }
        }
        self.written.took = self.begun.elapsed();
        Ok(self.written)
    }

    /// Sends the writes whose time has come, as far as connections are free.
    fn send_due(&mut self) -> Result<()> {
        while let Some(&index) = self.free.front() {
            let due = match self.plan.rate {
                Some(rate) => {
                    self.begun + Duration::from_secs_f64(seconds(self.sent) / f64::from(rate))
                }
                None => Instant::now(),
            };
            let is_last = matches!(self.plan.amount, Amount::Writes(count) if self.sent >= count);
            if is_last || due > Instant::now() {
                break;
            }
            self.free.pop_front();
            let request = self.plan.request(self.sent);
            self.sent += 1;
            if let Some(connection) = self.connections.get_mut(index) {
                connection.due = due;
                // It fits into an empty buffer.
                connection.stream.write_all(request.as_bytes())?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let mut buffer = [0; 4096];
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => bail!("the gateway has closed a connection"),
                Ok(length) => {
                    connection.response.extend(buffer.iter().take(length));
                    let Some(body) = body(&connection.response)? else { continue };
                    let (at_us, after) = (now_us(), connection.due.elapsed());
                    if connection.response.starts_with(b"HTTP/1.1 201 ") {
                        let after_us = u64::try_from(after.as_micros())?;
                        self.written.answers.push(Answer { id: id(body)?, at_us, after_us });
                    } else {
                        self.written.failed += 1;
                    }
                    connection.response.clear();
                    self.free.push_back(index);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("a write's answer cannot be read"),
            }
        }
    }
}

impl Plan {
    fn request(&self, number: u64) -> String {
        let (from, to) = self.users.of_write(number);
        let body = format!(
            r#"{{"from_user_id":"{}","to_user_id":"{}","content":"{number:x>CONTENT$}"}}"#,
            self.users.id(from),
            self.users.id(to),
        );
        format!(
            "POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Returns the body of a response, once it is complete.
fn body(response: &[u8]) -> Result<Option<&[u8]>> {
    let Some(head) = find(response, b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = response.split_at(head + 4);
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("a response has no content-length")?.trim().parse()?;
    Ok((body.len() >= length).then_some(body))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn seconds(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_with_its_last_byte() {
        let response = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        for length in 0..response.len() {
            assert_eq!(body(&response[..length]).unwrap(), None);
        }
        assert_eq!(body(response).unwrap(), Some(&b"{}"[..]));
    }
}

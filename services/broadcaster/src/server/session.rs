//! One subscriber: frames out, pings out, whatever comes in read and ignored, and a proper end.
//!
//! One task and one timer a session. At any time at most one frame is on its way out; while it is,
//! newer ones replace each other in the hub.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::close::Reason;
use crate::hub::{Frames, MAX_FRAME_BYTES};

/// The largest message a subscriber may send, in bytes; it is ignored anyway.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// What is read at a time. An idle subscriber holds a buffer of this size.
const READ_BUFFER_BYTES: usize = 1024;

/// The times of a session.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two pings.
    pub ping: Duration,
    /// From a ping to its pong.
    pub pong: Duration,
    /// For a frame to leave this process.
    pub send: Duration,
    /// For the closing handshake.
    pub close: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(25),
            pong: Duration::from_secs(10),
            send: Duration::from_secs(10),
            close: Duration::from_secs(5),
        }
    }
}

type Socket = WebSocketStream<TcpStream>;

/// Why a session ends.
enum End {
    /// The subscriber is gone; there is nobody to tell.
    Gone,
    /// The subscriber closes. tungstenite has queued the reply.
    ByPeer,
    /// This side closes.
    ByUs(Reason),
}

/// What the socket has done.
enum Event {
    Sent,
    Received(Message),
}

/// What a session waits for with its one timer.
struct Deadlines {
    timing: Timing,
    next_ping: Instant,
    pong_due: Option<Instant>,
    sent_due: Option<Instant>,
}

/// Serves a subscriber whose handshake is done, until it leaves or must, or `closing` ends.
/// `read_ahead` is what was read behind its request.
pub(super) async fn run(
    stream: TcpStream,
    read_ahead: Vec<u8>,
    frames: Frames,
    timing: Timing,
    closing: impl Future<Output = ()>,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Frames go to the kernel at once. What it doesn't take is one frame, a ping and a close.
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_FRAME_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut socket =
        WebSocketStream::from_partially_read(stream, read_ahead, Role::Server, Some(config)).await;
    let end = serve(&mut socket, frames, timing, closing).await;
    // Whoever does not finish the closing handshake in time is cut off.
    let _ = timeout(timing.close, finish(&mut socket, end)).await;
}

async fn serve(
    socket: &mut Socket,
    mut frames: Frames,
    timing: Timing,
    closing: impl Future<Output = ()>,
) -> End {
    let mut closing = pin!(closing);
    let mut deadlines = Deadlines::new(timing);
    let mut alarm = pin!(sleep_until(deadlines.earliest()));
    loop {
        let sending = deadlines.sent_due.is_some();
        let result = tokio::select! {
            // In this order, so that a subscriber that sends without end can't hold anything up.
            biased;
            () = closing.as_mut() => return End::ByUs(Reason::Stopping),
            () = alarm.as_mut() => {
                let result = match deadlines.passed() {
                    Some(end) => return end,
                    None if deadlines.take_ping() => {
                        send(socket, Message::Ping(Vec::new().into()), &mut deadlines).await
                    }
                    None => Ok(()),
                };
                alarm.as_mut().reset(deadlines.earliest());
                result
            }
            // A frame still on its way keeps the newest one waiting.
            Ok(()) = frames.changed(), if !sending => {
                let frame = frames.borrow_and_update().clone();
                let result = send(socket, Message::Text(frame), &mut deadlines).await;
                deadlines.bring_forward(alarm.as_mut());
                result
            }
            event = next_event(socket, sending) => match event {
                Ok(Some(Event::Sent)) => {
                    deadlines.sent_due = None;
                    Ok(())
                }
                Ok(Some(Event::Received(Message::Close(_)))) => return End::ByPeer,
                Ok(Some(Event::Received(Message::Pong(_)))) => {
                    deadlines.pong_due = None;
                    Ok(())
                }
                // Pings are answered by tungstenite.
                Ok(Some(Event::Received(_))) => Ok(()),
                Ok(None) => return End::Gone,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = result {
            return end_of(&error);
        }
    }
}

/// Hands a message to the kernel, or begins to: then `sent_due` is set and [`next_event`] goes on.
async fn send(
    socket: &mut Socket,
    message: Message,
    deadlines: &mut Deadlines,
) -> Result<(), Error> {
    socket.start_send_unpin(message)?;
    let flushed = poll_fn(|context| Poll::Ready(socket.poll_flush_unpin(context))).await;
    match flushed {
        Poll::Ready(result) => result,
        Poll::Pending => {
            deadlines.sent_due = Some(Instant::now() + deadlines.timing.send);
            Ok(())
        }
    }
}

/// What the socket does next; `None` at its end. Nothing is lost if this future is dropped.
async fn next_event(socket: &mut Socket, sending: bool) -> Result<Option<Event>, Error> {
    poll_fn(|context| {
        if sending && let Poll::Ready(flushed) = socket.poll_flush_unpin(context) {
            return Poll::Ready(flushed.map(|()| Some(Event::Sent)));
        }
        let received = ready!(socket.poll_next_unpin(context)).transpose();
        Poll::Ready(received.map(|message| message.map(Event::Received)))
    })
    .await
}

/// The closing handshake (RFC 6455, section 7).
async fn finish(socket: &mut Socket, end: End) {
    let by_peer = matches!(end, End::ByPeer);
    match end {
        End::Gone => return,
        End::ByPeer => {}
        End::ByUs(reason) => {
            tracing::debug!(?reason, "closing a session");
            // Waits until what is on its way is out: a frame can't be left in the middle.
            if socket.close(Some(reason.frame())).await.is_err() {
                return;
            }
        }
    }
    // Reading on is what sends a queued reply and takes in the other side's.
    let mut answered = by_peer;
    while let Some(Ok(message)) = socket.next().await {
        answered |= message.is_close();
    }
    if answered {
        return;
    }
    // A socket that is closed with something unread resets the connection, and the subscriber may
    // lose the close frame. So this side ends first, then reads until the other does.
    let stream = socket.get_mut();
    let mut rest = [0; 256];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
    }
}

fn end_of(error: &Error) -> End {
    Reason::of(error).map_or(End::Gone, End::ByUs)
}

impl Deadlines {
    fn new(timing: Timing) -> Self {
        Self { timing, next_ping: Instant::now() + timing.ping, pong_due: None, sent_due: None }
    }

    fn earliest(&self) -> Instant {
        let dues = [self.pong_due, self.sent_due];
        dues.into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    /// Lets the alarm ring earlier if it must. Where it may ring later it is left: it finds nothing
    /// to do then, which costs less than to set it for each frame.
    fn bring_forward(&self, alarm: std::pin::Pin<&mut Sleep>) {
        let earliest = self.earliest();
        if earliest < alarm.deadline() {
            alarm.reset(earliest);
        }
    }

    /// What the subscriber has missed, if anything.
    fn passed(&self) -> Option<End> {
        let now = Instant::now();
        let has_passed = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if has_passed(self.sent_due) {
            Some(End::ByUs(Reason::TakesNothing))
        } else if has_passed(self.pong_due) {
            Some(End::ByUs(Reason::Mute))
        } else {
            None
        }
    }

    /// Whether it is time for a ping, and notes that it is sent.
    fn take_ping(&mut self) -> bool {
        let now = Instant::now();
        if self.next_ping > now {
            return false;
        }
        if let Some(sent_due) = self.sent_due {
            // The frame on its way is question enough.
            self.next_ping = sent_due;
            return false;
        }
        self.next_ping = now + self.timing.ping;
        // An answer that is already due is not put off.
        self.pong_due.get_or_insert(now + self.timing.pong);
        true
    }
}

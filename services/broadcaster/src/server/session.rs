//! One subscriber: frames out, pings out, whatever comes in read and ignored, and a proper end.
//!
//! One task and one timer a session. The fan-out writes the frames; this task waits for everything
//! else, and makes up for a frame that was not taken at once.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::StreamExt;
use telemetry::metrics::{CounterFamily, catalog};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::close::Reason;
use crate::{
    hub::Subscription,
    paced_stream::{PacedStream, READ_AT_A_TIME},
    subscriber_sink::{Event, Socket, SubscriberSink},
    two_stage_deadline::TwoStageDeadline,
};

/// The largest message a subscriber may send, in bytes; it is ignored anyway.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// Room for what was not taken: of control frames, each of which has 125 bytes at most.
const MAX_WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// What is read at a time. An idle subscriber holds a buffer of this size.
const READ_BUFFER_BYTES: usize = 1024;

/// The times of a session.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two pings.
    pub ping: Duration,
    /// From a ping until its pong.
    pub pong: Duration,
    /// Without anything of a frame being taken.
    pub send: Duration,
    /// For the closing handshake.
    pub close: Duration,
    /// Between two parts that are read of a subscriber that sends much: 8 KiB/s by default.
    pub pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(25),
            pong: Duration::from_secs(10),
            send: Duration::from_secs(10),
            close: Duration::from_secs(5),
            pause: Duration::from_millis(250),
        }
    }
}

/// Why a session ends.
enum End {
    /// The subscriber is gone; there is nobody to tell.
    Gone,
    /// The subscriber closes. tungstenite has queued the reply.
    ByPeer,
    /// This side closes.
    ByUs(Reason),
}

/// Counts how sessions end.
pub(super) fn count_ends() -> CounterFamily {
    let reasons = Reason::ALL.map(Reason::name);
    let names: Vec<_> = reasons.into_iter().chain([End::Gone.name(), End::ByPeer.name()]).collect();
    catalog::SESSIONS_CLOSED.each("reason", &names)
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::ByPeer => "by_peer",
            Self::ByUs(reason) => reason.name(),
        }
    }
}

/// What a session does next.
enum Step {
    Close,
    Alarm,
    Event(Result<Event, Error>),
}

/// What a session waits for with its one timer.
struct Deadlines {
    timing: Timing,
    next_ping: Instant,
    pong_due: Option<TwoStageDeadline>,
}

/// Serves a subscriber whose handshake is done, until it leaves or must, or `closing` ends.
/// `read_ahead` is what was read behind its request.
pub(super) async fn run(
    stream: TcpStream,
    read_ahead: Vec<u8>,
    mut subscription: Subscription,
    timing: Timing,
    ends: &CounterFamily,
    closing: impl Future<Output = ()>,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // What goes out goes to the kernel at once. What that doesn't take is a pong, a ping and a
        // close: frames don't come through here.
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let wire = PacedStream::new(stream, timing.pause);
    let socket =
        WebSocketStream::from_partially_read(wire, read_ahead, Role::Server, Some(config)).await;
    let outlet = Arc::new(SubscriberSink::new(socket, subscription.last, timing.send));
    subscription.open(&outlet);
    let end = serve(&outlet, &subscription, timing, closing).await;
    ends.count(end.name());
    if let Some(mut socket) = outlet.take() {
        socket.get_mut().read_the_end();
        // Whoever does not finish the closing handshake in time is cut off.
        let _ = timeout(timing.close, finish(&mut socket, end)).await;
    }
}

async fn serve(
    outlet: &SubscriberSink,
    subscription: &Subscription,
    timing: Timing,
    closing: impl Future<Output = ()>,
) -> End {
    let mut closing = pin!(closing);
    let mut deadlines = Deadlines::new(timing);
    let mut alarm = pin!(sleep_until(deadlines.next_ping));
    loop {
        // In this order, so that a subscriber that sends without end can't hold anything up.
        let step = poll_fn(|context| {
            if closing.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Close);
            }
            if alarm.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Alarm);
            }
            let event = outlet.poll(context);
            // Where the alarm may ring later it is left: it finds nothing to do then, which costs
            // less than to set it each time.
            let earliest = deadlines.earliest(outlet);
            if earliest < alarm.deadline() {
                alarm.as_mut().reset(earliest);
                // It is asked in the next round, and then knows whom to wake.
                context.waker().wake_by_ref();
            }
            event.map(Step::Event)
        });
        let event = match step.await {
            Step::Close => return End::ByUs(Reason::Stopping),
            Step::Alarm => {
                outlet.resume_reading();
                if let Some(reason) = deadlines.missed(outlet) {
                    return End::ByUs(reason);
                }
                let pinged = poll_fn(|context| Poll::Ready(deadlines.ping(outlet, context))).await;
                alarm.as_mut().reset(deadlines.earliest(outlet));
                match pinged {
                    Ok(()) => continue,
                    Err(error) => return end_of(&error),
                }
            }
            Step::Event(event) => event,
        };
        match event {
            Ok(Event::Sent) => subscription.catch_up(outlet),
            Ok(Event::Received(Message::Close(_))) => return End::ByPeer,
            Ok(Event::Received(Message::Pong(_))) => deadlines.pong_due = None,
            // The library answers pings.
            Ok(Event::Received(_)) => {}
            Ok(Event::Ended) => return End::Gone,
            Err(error) => return end_of(&error),
        }
    }
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
    // Not in the session's own state, which every subscriber has.
    let mut rest = vec![0; READ_AT_A_TIME];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
    }
}

fn end_of(error: &Error) -> End {
    Reason::of(error).map_or(End::Gone, End::ByUs)
}

impl Deadlines {
    fn new(timing: Timing) -> Self {
        Self { timing, next_ping: Instant::now() + timing.ping, pong_due: None }
    }

    fn earliest(&self, outlet: &SubscriberSink) -> Instant {
        let pong_due = self.pong_due.map(|limit| limit.until());
        let others = [pong_due, outlet.sent_due(), outlet.paused_until()];
        others.into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    /// What the subscriber has missed, if anything.
    fn missed(&mut self, outlet: &SubscriberSink) -> Option<Reason> {
        if outlet.is_stuck() {
            return Some(Reason::SlowConsumer);
        }
        let pong_due = self.pong_due.as_mut()?;
        if !pong_due.is_over() {
            return None;
        }
        if outlet.is_drained() {
            return Some(Reason::PongTimeout);
        }
        // The pong of one that sends more than is read of it may be behind all that.
        *pong_due = TwoStageDeadline::new(self.timing.pong);
        None
    }

    /// Sends a ping if it is time for one.
    fn ping(&mut self, outlet: &SubscriberSink, context: &mut Context<'_>) -> Result<(), Error> {
        let now = Instant::now();
        if self.next_ping > now {
            return Ok(());
        }
        if outlet.send(Message::Ping(Vec::new().into()), context)? {
            self.next_ping = now + self.timing.ping;
            // An answer that is already due is not put off.
            self.pong_due.get_or_insert_with(|| TwoStageDeadline::new(self.timing.pong));
        } else {
            // What is on its way is question enough.
            self.next_ping = outlet.sent_due().unwrap_or(now + self.timing.ping);
        }
        Ok(())
    }
}

//! A subscriber's session, with one task and one timer. The fan-out writes the frames of the broadcast; the session writes
//! those of an event stream, one after the other. The session pings, reads messages, all of which it ignores but those with
//! tokens, sends the newest frame after some were skipped, and closes.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
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
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use super::{
    authority::{Authority, Verdict},
    close_reason::CloseReason,
    deadlines::{Deadlines, Timeouts},
    source::Source,
};
use crate::{
    events::stream,
    fan_out::{
        frame::Frame,
        paced_stream::{PacedStream, READ_AT_A_TIME},
        subscriber_sink::{Event, Socket, SubscriberSink},
    },
};

/// Maximum size of a message of a subscriber, in bytes; it is ignored anyway.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// The same where messages may have a token.
pub(super) const MAX_TOKEN_MESSAGE_BYTES: usize = 16 * 1024;

/// Maximum number of bytes of unsent control frames, each of up to 125 bytes.
const MAX_WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// Size of the read buffer. Idle subscribers hold one, too.
const READ_BUFFER_BYTES: usize = 1024;

/// A subscriber as its session knows it.
pub(super) struct Subscriber {
    pub(super) source: Source,
    /// `None` if anybody may subscribe.
    pub(super) authority: Option<Box<Authority>>,
}

/// The end of a session.
enum End {
    /// The subscriber is gone.
    Gone,
    /// The subscriber has sent a close frame. tungstenite has queued the reply.
    ByPeer,
    /// The same, but its code must not be in a close frame (RFC 6455, section 7.4). The reply says so.
    ByInvalidClose,
    /// This side closes.
    ByUs(CloseReason),
}

impl End {
    fn of(error: &Error) -> Self {
        CloseReason::of(error).map_or(Self::Gone, Self::ByUs)
    }

    fn of_stream(end: stream::End) -> Self {
        Self::ByUs(match end {
            stream::End::Aged => CloseReason::Aged,
            stream::End::Displaced => CloseReason::Displaced,
            stream::End::Expired => CloseReason::Expired,
        })
    }

    /// Returns the end after a close frame with the code `sent`, by tungstenite's reply: the same frame or a protocol
    /// error.
    fn after_close(sent: Option<u16>, reply: Option<&CloseFrame>) -> Self {
        let refused = reply.is_some_and(|reply| sent != Some(reply.code.into()));
        if refused { Self::ByInvalidClose } else { Self::ByPeer }
    }

    /// Returns the value of the metric's label.
    fn label(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::ByPeer => "by_peer",
            Self::ByInvalidClose => CloseReason::ProtocolError.label(),
            Self::ByUs(reason) => reason.label(),
        }
    }
}

/// A step of a session.
enum Step {
    Close,
    Timer,
    Event(Result<Event, Error>),
    Stream(Result<Frame, stream::End>),
    Token(Verdict),
}

/// Registers the counters of sessions by their ends.
pub(super) fn count_ends() -> CounterFamily {
    let ends = CloseReason::ALL.map(End::ByUs).into_iter().chain([End::Gone, End::ByPeer]);
    let labels: Vec<_> = ends.map(|end| end.label()).collect();
    catalog::SESSIONS_CLOSED.family("reason", &labels)
}

/// Serves a subscriber after its handshake, until it leaves, misses a deadline, or `closing` completes.
/// `read_ahead` was read behind its request.
pub(super) async fn run(
    stream: TcpStream,
    read_ahead: Vec<u8>,
    mut subscriber: Box<Subscriber>,
    timeouts: Timeouts,
    ends: &CounterFamily,
    closing: impl Future<Output = ()>,
) {
    let max_bytes = match subscriber.authority {
        Some(_) => MAX_TOKEN_MESSAGE_BYTES,
        None => MAX_MESSAGE_BYTES,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Control frames go to the kernel at once. Frames do not come through this buffer.
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(max_bytes))
        .max_frame_size(Some(max_bytes));
    let stream = PacedStream::new(stream, &read_ahead, timeouts.read_pause);
    let socket =
        WebSocketStream::from_partially_read(stream, read_ahead, Role::Server, Some(config)).await;
    let sink = Arc::new(SubscriberSink::new(socket, timeouts.send));
    subscriber.source = subscriber.source.attached(&sink);
    let end = serve(&sink, &mut subscriber, timeouts, closing).await;
    ends.count(end.label());
    // A subscriber that does not reply to the close frame must not keep its share of those that wait for their tokens.
    subscriber.authority = None;
    if let Some(mut socket) = sink.take() {
        socket.get_mut().read_while_closing();
        // A subscriber that does not finish the closing handshake in time is cut off.
        let _ = timeout(timeouts.close, close(&mut socket, end)).await;
    }
}

async fn serve(
    sink: &Arc<SubscriberSink>,
    subscriber: &mut Subscriber,
    timeouts: Timeouts,
    closing: impl Future<Output = ()>,
) -> End {
    let mut closing = pin!(closing);
    let mut deadlines = Deadlines::new(timeouts);
    let mut timer = pin!(sleep_until(subscriber.earliest(&deadlines, sink)));
    loop {
        // In this order, so that a subscriber that sends without end cannot hold up the rest.
        let step = poll_fn(|context| {
            if closing.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Close);
            }
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Step::Timer);
            }
            if let Poll::Ready(step) = subscriber.poll_authority(sink, context) {
                return Poll::Ready(step);
            }
            let event = sink.poll_event(context);
            // A timer that fires too early costs less than setting it each time.
            let earliest = subscriber.earliest(&deadlines, sink);
            if earliest < timer.deadline() {
                timer.as_mut().reset(earliest);
                // The timer must be polled to know the waker.
                context.waker().wake_by_ref();
            }
            if event.is_pending()
                && sink.send_deadline().is_none()
                && let Poll::Ready(step) = subscriber.poll_source(context)
            {
                return Poll::Ready(step.map_or(Step::Close, Step::Stream));
            }
            event.map(Step::Event)
        });
        let end = match step.await {
            Step::Close => Some(End::ByUs(CloseReason::Stopping)),
            Step::Timer => {
                let end = poll_fn(|context| {
                    Poll::Ready(subscriber.timer_fired(&mut deadlines, sink, context))
                });
                let end = end.await;
                timer.as_mut().reset(subscriber.earliest(&deadlines, sink));
                end
            }
            Step::Stream(Ok(frame)) => {
                sink.try_send(&frame);
                None
            }
            Step::Stream(Err(end)) => Some(End::of_stream(end)),
            Step::Token(Verdict::Unchanged) => None,
            Step::Token(Verdict::Opened(source)) => {
                subscriber.source = source.attached(sink);
                None
            }
            Step::Token(Verdict::Ended(reason)) => {
                // The close frame follows what the subscriber is told.
                let _ = poll_fn(|context| Poll::Ready(subscriber.tell(sink, context))).await;
                Some(End::ByUs(reason))
            }
            Step::Event(Ok(event)) => subscriber.happened(event, &mut deadlines, sink),
            Step::Event(Err(error)) => Some(End::of(&error)),
        };
        if let Some(end) = end {
            return end;
        }
    }
}

impl Subscriber {
    /// Returns when the session has to check its deadlines.
    fn earliest(&self, deadlines: &Deadlines, sink: &SubscriberSink) -> Instant {
        let of_token = self.authority.as_ref().and_then(|authority| authority.due_at());
        of_token.into_iter().fold(deadlines.earliest(sink), Instant::min)
    }

    /// Tells the client what it has to know of its token, and completes when a new one is verified.
    fn poll_authority(&mut self, sink: &SubscriberSink, context: &mut Context<'_>) -> Poll<Step> {
        if let Err(error) = self.tell(sink, context) {
            return Poll::Ready(Step::Event(Err(error)));
        }
        match &mut self.authority {
            Some(authority) => authority.poll_verdict(context).map(Step::Token),
            None => Poll::Pending,
        }
    }

    /// Completes with the next frame of an event stream, or when the source ends.
    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, stream::End>>> {
        match &mut self.source {
            _ if self.authority.as_ref().is_some_and(|authority| authority.is_suspended()) => {
                Poll::Pending
            }
            Source::Events(steps) => steps.poll_next_unpin(context),
            Source::Broadcast(_, Some(displaced)) => {
                displaced.as_mut().poll(context).map(|()| Some(Err(stream::End::Displaced)))
            }
            Source::Broadcast(_, None) | Source::Closed => Poll::Pending,
        }
    }

    /// Does what is due. Returns the end of the session if that is.
    fn timer_fired(
        &mut self,
        deadlines: &mut Deadlines,
        sink: &SubscriberSink,
        context: &mut Context<'_>,
    ) -> Option<End> {
        sink.resume_reading();
        if let Some(authority) = &mut self.authority {
            if let Some(reason) = authority.due() {
                return Some(End::ByUs(reason));
            }
            // The fan-out would go on writing to it. A new token opens it again.
            if authority.is_suspended() && matches!(self.source, Source::Broadcast(..)) {
                self.source = Source::Closed;
            }
        }
        if let Some(reason) = deadlines.missed(sink) {
            return Some(End::ByUs(reason));
        }
        deadlines.ping(sink, context).err().map(|error| End::of(&error))
    }

    /// Takes an event of the socket.
    fn happened(
        &mut self,
        event: Event,
        deadlines: &mut Deadlines,
        sink: &SubscriberSink,
    ) -> Option<End> {
        match event {
            Event::Sent => {
                if let Source::Broadcast(subscription, _) = &self.source {
                    subscription.catch_up(sink);
                }
            }
            Event::Received(Message::Close(reply)) => {
                return Some(End::after_close(sink.close_code(), reply.as_ref()));
            }
            Event::Received(Message::Pong(_)) => deadlines.pong_received(),
            // The library sends pongs.
            Event::Received(Message::Ping(_)) => {}
            Event::Received(message) => return self.received(&message).err().map(End::ByUs),
            Event::Gone => return Some(End::Gone),
        }
        None
    }

    fn received(&mut self, message: &Message) -> Result<(), CloseReason> {
        let Some(authority) = &mut self.authority else { return Ok(()) };
        authority.received(match message {
            Message::Text(text) => Some(text),
            _ => None,
        })
    }

    fn tell(&mut self, sink: &SubscriberSink, context: &mut Context<'_>) -> Result<(), Error> {
        self.authority.as_mut().map_or(Ok(()), |authority| authority.tell(sink, context))
    }
}

/// Closes the WebSocket (RFC 6455, section 7), then the connection.
async fn close(socket: &mut Socket, end: End) {
    match end {
        End::Gone => return,
        End::ByPeer | End::ByInvalidClose => {}
        End::ByUs(reason) => {
            tracing::debug!(reason = reason.text(), "closing a session");
            // This waits until a frame that is being sent is out.
            if socket.close(Some(reason.frame())).await.is_err() {
                return;
            }
        }
    }
    // Reading sends a queued reply, and receives the subscriber's.
    while let Some(Ok(_)) = socket.next().await {}
    // Closing a socket with unread bytes resets the connection, and the subscriber may lose the close
    // frame. So this side ends first, then reads until the other does, also behind the subscriber's close frame.
    let stream = socket.get_mut();
    // On the heap: otherwise the task of every session would be that much larger.
    let mut rest = vec![0; READ_AT_A_TIME];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
    }
}

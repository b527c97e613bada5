//! One subscriber's socket, where those meet that use it: the fan-out, which writes frames to it,
//! and its session, which does everything else.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message},
};

use crate::{hub::Frame, paced_stream::PacedStream, two_stage_deadline::TwoStageDeadline};

/// A subscriber's WebSocket.
pub(crate) type Socket = WebSocketStream<PacedStream>;

/// A socket that takes one frame at a time. While one is on its way the next ones pass; the session
/// makes up for that with the newest, so a slow subscriber costs no memory and delays nobody.
#[derive(Debug)]
pub(crate) struct SubscriberSink {
    state: Mutex<State>,
    /// How long the subscriber may take nothing of what is on its way.
    limit: Duration,
}

#[derive(Debug)]
struct State {
    /// None once the session ends and has taken it.
    socket: Option<Box<Socket>>,
    /// The number of the last frame that was sent.
    last: u64,
    /// By when more of what is on its way must be out. While there is none, nothing is on its way,
    /// neither here nor in the WebSocket library's own buffer.
    sent_due: Option<TwoStageDeadline>,
    session: Option<Waker>,
}

/// What a session is told of its socket.
pub(crate) enum Event {
    /// Everything that was on its way is out.
    Sent,
    Received(Message),
    /// The subscriber is gone.
    Ended,
}

impl SubscriberSink {
    /// A socket whose subscriber is to get the frames after the one of this number.
    pub(crate) fn new(socket: Socket, last: u64, limit: Duration) -> Self {
        let socket = Some(Box::new(socket));
        let state = State { socket, last, sent_due: None, session: None };
        Self { state: Mutex::new(state), limit }
    }

    /// Sends a frame, unless it was sent before, or another one is still on its way. How many newer
    /// frames that makes than the last one sent: those before this one were left out for good.
    pub(crate) fn offer(&self, frame: &Frame) -> u64 {
        let mut state = self.state();
        if frame.number <= state.last || state.sent_due.is_some() {
            return 0;
        }
        let Some(socket) = &mut state.socket else { return 0 };
        // An error is found by the session, too: the socket can be read then.
        if let Ok(false) = socket.get_mut().offer(&frame.encoded) {
            state.sent_due = Some(TwoStageDeadline::new(self.limit));
            if let Some(session) = state.session.take() {
                session.wake();
            }
        }
        frame.number - std::mem::replace(&mut state.last, frame.number)
    }

    /// Sends a message beside the frames. Only if nothing is on its way; whether that was so.
    pub(crate) fn send(&self, message: Message, context: &mut Context<'_>) -> Result<bool, Error> {
        let mut state = self.state();
        if state.sent_due.is_some() {
            return Ok(false);
        }
        let Some(socket) = &mut state.socket else { return Ok(false) };
        socket.start_send_unpin(message)?;
        self.flush(&mut state, context).map(|_| true)
    }

    /// What happens next. Nothing is lost if it is never asked again.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        let mut state = self.state();
        state.session = Some(context.waker().clone());
        if state.sent_due.is_some() && self.flush(&mut state, context)? {
            return Poll::Ready(Ok(Event::Sent));
        }
        let Some(socket) = &mut state.socket else { return Poll::Ready(Ok(Event::Ended)) };
        let received = match ready!(socket.poll_next_unpin(context)) {
            Some(received) => received?,
            None => return Poll::Ready(Ok(Event::Ended)),
        };
        if received.is_ping() {
            // The library has answered it, or still has to. If that takes along what was on its way,
            // the session has to know, for a frame may have passed meanwhile.
            let was_due = state.sent_due.is_some();
            if self.flush(&mut state, context)? && was_due {
                return Poll::Ready(Ok(Event::Sent));
            }
        }
        Poll::Ready(Ok(Event::Received(received)))
    }

    /// When to ask whether it is stuck; none while nothing is on its way.
    pub(crate) fn sent_due(&self) -> Option<Instant> {
        self.state().sent_due.map(|limit| limit.until())
    }

    /// Whether nothing of what is on its way was taken for too long.
    pub(crate) fn is_stuck(&self) -> bool {
        self.state().sent_due.as_mut().is_some_and(TwoStageDeadline::is_over)
    }

    /// Whether all that had come from the subscriber was read when it was read last.
    pub(crate) fn is_drained(&self) -> bool {
        self.state().socket.as_ref().is_some_and(|socket| socket.get_ref().is_drained())
    }

    /// Lets the subscriber be read again, if a pause in that is over.
    pub(crate) fn resume_reading(&self) {
        if let Some(socket) = &mut self.state().socket {
            socket.get_mut().resume_reading();
        }
    }

    /// When the subscriber can be read again, if that pauses.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.state().socket.as_ref().and_then(|socket| socket.get_ref().paused_until())
    }

    /// The socket, for its end. No more frames are sent.
    pub(crate) fn take(&self) -> Option<Box<Socket>> {
        self.state().socket.take()
    }

    /// Whether its session has begun to end.
    #[cfg(test)]
    pub(crate) fn is_ending(&self) -> bool {
        self.state().socket.is_none()
    }

    /// Whether everything is out. If not, `context` is woken when it may go on.
    fn flush(&self, state: &mut State, context: &mut Context<'_>) -> Result<bool, Error> {
        let Some(socket) = &mut state.socket else { return Ok(false) };
        // A second time for the pong that the library held back while its buffer was full.
        for _ in 0..2 {
            match socket.poll_flush_unpin(context) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => {
                    // Who takes a little at a time is slow, but takes.
                    if socket.get_mut().has_progressed() || state.sent_due.is_none() {
                        state.sent_due = Some(TwoStageDeadline::new(self.limit));
                    }
                    return Ok(false);
                }
            }
        }
        state.sent_due = None;
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

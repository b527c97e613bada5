//! A subscriber's sink: the socket that the fan-out, which writes frames, shares with the session,
//! which does everything else.

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

use super::{frame::Frame, paced_stream::PacedStream};
use crate::limits::two_stage_deadline::TwoStageDeadline;

/// A subscriber's WebSocket.
pub(crate) type Socket = WebSocketStream<PacedStream>;

/// A socket that takes one frame at a time. While one is being sent the next ones are skipped, and
/// the session then sends the newest. So a slow subscriber costs no memory and delays nobody.
#[derive(Debug)]
pub(crate) struct SubscriberSink {
    state: Mutex<State>,
    /// Maximum time in which the subscriber takes nothing of what is being sent.
    send_timeout: Duration,
}

#[derive(Debug)]
struct State {
    /// `None` once the session has taken it to close it.
    socket: Option<Box<Socket>>,
    /// Number of the last frame that was sent or is not wanted.
    last: u64,
    /// Deadline for the subscriber to take more. `None` while nothing is being sent: neither a frame
    /// nor anything in the WebSocket library's own buffer.
    send_deadline: Option<TwoStageDeadline>,
    session: Option<Waker>,
}

/// An event of a socket, for its session.
pub(crate) enum Event {
    /// Nothing is being sent any more.
    Sent,
    Received(Message),
    /// The subscriber is gone.
    Gone,
}

impl SubscriberSink {
    /// Makes a sink that takes all frames.
    pub(crate) fn new(socket: Socket, send_timeout: Duration) -> Self {
        let socket = Some(Box::new(socket));
        let state = State { socket, last: 0, send_deadline: None, session: None };
        Self { state: Mutex::new(state), send_timeout }
    }

    /// Makes the sink take only frames after the one numbered `last`.
    pub(crate) fn skip_to(&self, last: u64) {
        self.state().last = last;
    }

    /// Sends a frame, unless it was sent before or something is still being sent. Returns by how many
    /// frames the sink advanced: those before this one were skipped for good.
    pub(crate) fn try_send(&self, frame: &Frame) -> u64 {
        let mut state = self.state();
        if frame.number <= state.last || state.send_deadline.is_some() {
            return 0;
        }
        let Some(socket) = &mut state.socket else { return 0 };
        // The session finds an error, too: the socket is readable then.
        if let Ok(false) = socket.get_mut().try_send(frame.websocket()) {
            state.send_deadline = Some(TwoStageDeadline::new(self.send_timeout));
            if let Some(session) = state.session.take() {
                session.wake();
            }
        }
        frame.number - std::mem::replace(&mut state.last, frame.number)
    }

    /// Sends a message other than a frame. Returns false, and sends nothing, while something is being
    /// sent.
    pub(crate) fn send(&self, message: Message, context: &mut Context<'_>) -> Result<bool, Error> {
        let mut state = self.state();
        if state.send_deadline.is_some() {
            return Ok(false);
        }
        let Some(socket) = &mut state.socket else { return Ok(false) };
        socket.start_send_unpin(message)?;
        self.flush(&mut state, context).map(|_| true)
    }

    /// Returns the next event. Cancel safe.
    pub(crate) fn poll_event(&self, context: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        let mut state = self.state();
        state.session = Some(context.waker().clone());
        if state.send_deadline.is_some() && self.flush(&mut state, context)? {
            return Poll::Ready(Ok(Event::Sent));
        }
        let Some(socket) = &mut state.socket else { return Poll::Ready(Ok(Event::Gone)) };
        let received = match ready!(socket.poll_next_unpin(context)) {
            Some(received) => received?,
            None => return Poll::Ready(Ok(Event::Gone)),
        };
        if received.is_ping() {
            // The library has sent the pong or still has to. If that flushes what was being sent, the
            // session must know: a frame may have been skipped meanwhile.
            let was_sending = state.send_deadline.is_some();
            if self.flush(&mut state, context)? && was_sending {
                return Poll::Ready(Ok(Event::Sent));
            }
        }
        Poll::Ready(Ok(Event::Received(received)))
    }

    /// Returns when to check [`is_stuck`](Self::is_stuck); `None` while nothing is being sent.
    pub(crate) fn send_deadline(&self) -> Option<Instant> {
        self.state().send_deadline.map(|deadline| deadline.until())
    }

    /// Returns true if the subscriber has taken nothing for too long.
    pub(crate) fn is_stuck(&self) -> bool {
        self.state().send_deadline.as_mut().is_some_and(TwoStageDeadline::is_over)
    }

    /// Returns true if the last read found nothing more to read.
    pub(crate) fn is_drained(&self) -> bool {
        self.state().socket.as_ref().is_some_and(|socket| socket.get_ref().is_drained())
    }

    /// Reads from the subscriber again, if the pause is over.
    pub(crate) fn resume_reading(&self) {
        if let Some(socket) = &mut self.state().socket {
            socket.get_mut().resume_reading();
        }
    }

    /// Returns when the pause in reading ends, if there is one.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.state().socket.as_ref().and_then(|socket| socket.get_ref().paused_until())
    }

    /// Returns the code of the subscriber's close frame, as it was sent.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.state().socket.as_ref().and_then(|socket| socket.get_ref().close_code())
    }

    /// Takes the socket, to close it. No more frames are sent.
    pub(crate) fn take(&self) -> Option<Box<Socket>> {
        self.state().socket.take()
    }

    /// Returns true once the session closes.
    #[cfg(test)]
    pub(crate) fn is_closing(&self) -> bool {
        self.state().socket.is_none()
    }

    /// Returns true if everything is sent. If not, wakes `context` when it may go on.
    fn flush(&self, state: &mut State, context: &mut Context<'_>) -> Result<bool, Error> {
        let Some(socket) = &mut state.socket else { return Ok(false) };
        // The second time is for the pong that the library held back while its buffer was full.
        for _ in 0..2 {
            match socket.poll_flush_unpin(context) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => {
                    // A subscriber that takes a little at a time is slow, not stuck.
                    if socket.get_mut().take_progress() || state.send_deadline.is_none() {
                        state.send_deadline = Some(TwoStageDeadline::new(self.send_timeout));
                    }
                    return Ok(false);
                }
            }
        }
        state.send_deadline = None;
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The deadlines of a session, which share one timer.

use std::{task::Context, time::Duration};

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::close_reason::CloseReason;
use crate::{
    fan_out::subscriber_sink::SubscriberSink, limits::two_stage_deadline::TwoStageDeadline,
};

/// Timeouts and intervals of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Interval of pings.
    pub(crate) ping: Duration,
    /// Maximum time from a ping to its pong.
    pub(crate) pong: Duration,
    /// Maximum time in which the subscriber takes nothing of what is sent.
    pub(crate) send: Duration,
    /// Maximum time of the closing handshake.
    pub(crate) close: Duration,
    /// Maximum time to the message with the token of a subscriber that sent none in its handshake.
    pub(crate) token: Duration,
    /// Pause in reading a subscriber that sends much; the default limits it to 8 KiB/s.
    pub(crate) read_pause: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(25),
            pong: Duration::from_secs(10),
            send: Duration::from_secs(10),
            close: Duration::from_secs(5),
            token: Duration::from_secs(5),
            read_pause: Duration::from_millis(250),
        }
    }
}

pub(super) struct Deadlines {
    timeouts: Timeouts,
    next_ping: Instant,
    pong: Option<TwoStageDeadline>,
}

impl Deadlines {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, next_ping: Instant::now() + timeouts.ping, pong: None }
    }

    /// Returns when the session has to check its deadlines.
    pub(super) fn earliest(&self, sink: &SubscriberSink) -> Instant {
        let pong = self.pong.map(|deadline| deadline.until());
        let others = [pong, sink.send_deadline(), sink.paused_until()];
        others.into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    /// Returns the reason to close a subscriber that missed a deadline.
    pub(super) fn missed(&mut self, sink: &SubscriberSink) -> Option<CloseReason> {
        if sink.is_stuck() {
            return Some(CloseReason::SlowConsumer);
        }
        let pong = self.pong.as_mut()?;
        if !pong.is_over() {
            return None;
        }
        if sink.is_drained() {
            return Some(CloseReason::PongTimeout);
        }
        // The subscriber sends more than is read, and its pong may be behind all that.
        *pong = TwoStageDeadline::new(self.timeouts.pong);
        None
    }

    pub(super) fn pong_received(&mut self) {
        self.pong = None;
    }

    /// Sends a ping if it is time for one.
    pub(super) fn ping(
        &mut self,
        sink: &SubscriberSink,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        if self.next_ping > now {
            return Ok(());
        }
        if sink.send(Message::Ping(Vec::new().into()), context)? {
            self.next_ping = now + self.timeouts.ping;
            // An outstanding pong keeps its deadline.
            self.pong.get_or_insert_with(|| TwoStageDeadline::new(self.timeouts.pong));
        } else {
            // The send deadline does for now what a ping does.
            self.next_ping = sink.send_deadline().unwrap_or(now + self.timeouts.ping);
        }
        Ok(())
    }
}

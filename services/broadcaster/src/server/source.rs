//! Sources of the frames of sessions.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;

use crate::{
    events::stream,
    fan_out::{frame::Frame, hub::Subscription, subscriber_sink::SubscriberSink},
};

/// Source of a session's frames.
pub(super) enum Source {
    /// None yet: the subscriber has not sent its token.
    Closed,
    /// The fan-out, which writes them by itself, until newer subscriptions of the same user displace this one.
    Broadcast(Subscription, Option<Displaced>),
    /// An event stream, which ends with a reason.
    Events(Pin<Box<dyn Stream<Item = Result<Frame, stream::End>> + Send>>),
}

/// Completes once a session has lost its share of its user's limit, which it holds until then.
pub(super) type Displaced = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Source {
    /// Lets the fan-out write to this sink if the source is the broadcast.
    pub(super) fn attached(mut self, sink: &Arc<SubscriberSink>) -> Self {
        if let Self::Broadcast(subscription, _) = &mut self {
            subscription.attach(sink);
        }
        self
    }
}

//! Requests of event subscribers and what they received: a part of the history.

use std::{collections::HashMap, fmt, time::Duration};

use contracts::{Event, EventPosition, Message, MessageId, UserId, Version};

/// Whose messages an event subscriber follows, and how.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The user.
    pub user: String,
    /// The other user of the one conversation that is followed; `None` for all.
    pub with: Option<String>,
    /// Transport of the events.
    pub transport: Transport,
}

/// The ways in which events reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Server-sent events.
    Sse,
    /// A WebSocket.
    WebSocket,
    /// JSON pages, one request after the other.
    Poll,
}

/// Something that happened to an event subscriber.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Number of the subscriber.
    pub subscriber: usize,
    /// Number of the stream: from its request to its end. Pages that continue each other are one stream.
    pub stream: u64,
    /// Time of its arrival.
    pub at: Duration,
    /// Kind of the arrival.
    pub what: Arrived,
}

/// The things that happen to an event subscriber.
#[derive(Clone, Debug)]
pub enum Arrived {
    /// It asked for a stream.
    Asked {
        /// The position to resume at; `None` from now on.
        after: Option<EventPosition>,
        /// The address that it asked.
        address: String,
    },
    /// The stream begins.
    Ready {
        /// The position of the begin.
        position: EventPosition,
        /// True if that is the one that was asked for.
        resumed: bool,
    },
    /// An event.
    Event {
        /// The position behind it.
        position: EventPosition,
        /// The event.
        event: Event,
    },
    /// A position without an event.
    Checkpoint {
        /// The position.
        position: EventPosition,
    },
    /// The subscriber must start over.
    Reset {
        /// The position to continue at.
        position: EventPosition,
        /// The reason.
        reason: String,
    },
    /// The subscriber has listed the messages that it follows, as it must after a reset.
    Listed {
        /// Time of the first request.
        began: Duration,
        /// The content of each message.
        contents: HashMap<MessageId, String>,
    },
    /// The stream has ended, or never began.
    Ended(String),
    /// Nothing that a promise allows. It ends the stream, too.
    Unexpected(String),
}

/// An event, of whichever type it is.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The message's id.
    pub id: MessageId,
    /// The message's version.
    pub version: Version,
    /// The sender.
    pub from: &'a UserId,
    /// The recipient.
    pub to: &'a UserId,
    /// The message; `None` if it is deleted.
    pub message: Option<&'a Message>,
}

impl Followed {
    /// Returns true if messages between these users are followed.
    #[must_use]
    pub fn wants(&self, from: &str, to: &str) -> bool {
        match &self.with {
            None => from == self.user || to == self.user,
            Some(with) => (from, to) == (&self.user, with) || (from, to) == (with, &self.user),
        }
    }
}

impl<'a> From<&'a Event> for Told<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::Created { version, message } | Event::Edited { version, message } => Self {
                id: message.id,
                version: *version,
                from: &message.from_user_id,
                to: &message.to_user_id,
                message: Some(message),
            },
            Event::Deleted { version, message } => Self {
                id: message.id,
                version: *version,
                from: &message.from_user_id,
                to: &message.to_user_id,
                message: None,
            },
        }
    }
}

impl Arrival {
    /// Returns its event, and the position behind it.
    #[must_use]
    pub fn event(&self) -> Option<(EventPosition, Told<'_>)> {
        match &self.what {
            Arrived::Event { position, event } => Some((*position, event.into())),
            _ => None,
        }
    }
}

impl Arrived {
    /// Returns the position at which the subscriber can resume after it.
    #[must_use]
    pub fn position(&self) -> Option<EventPosition> {
        match self {
            Self::Ready { position, .. }
            | Self::Event { position, .. }
            | Self::Checkpoint { position }
            | Self::Reset { position, .. } => Some(*position),
            Self::Asked { .. } | Self::Listed { .. } | Self::Ended(_) | Self::Unexpected(_) => None,
        }
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.transport, self.user)?;
        self.with.as_ref().map_or(Ok(()), |with| write!(f, " with {with}"))
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscriber, stream, at, what } = self;
        let at = at.as_secs_f64();
        write!(f, "[{at:9.3}] event subscriber {subscriber}, stream {stream}: {what}")
    }
}

impl fmt::Display for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { after: None, address } => write!(f, "asks {address} from now on"),
            Self::Asked { after: Some(after), address } => {
                write!(f, "asks {address} after {}", Place::from(*after))
            }
            Self::Ready { position, resumed } => {
                write!(f, "ready at {}, resumed: {resumed}", Place::from(*position))
            }
            Self::Event { position, event } => {
                let Told { id, version, message, .. } = event.into();
                let content = message.map_or("deleted", |message| message.content.as_str());
                write!(f, "{}: {id} version {version} {content}", Place::from(*position))
            }
            Self::Checkpoint { position } => write!(f, "at {}", Place::from(*position)),
            Self::Reset { position, reason } => {
                write!(f, "reset to {}: {reason}", Place::from(*position))
            }
            Self::Listed { contents, .. } => write!(f, "listed {} messages", contents.len()),
            Self::Ended(why) => write!(f, "ended: {why}"),
            Self::Unexpected(what) => write!(f, "UNEXPECTED: {what}"),
        }
    }
}

/// A place in the log of changes. Numbers go on when the log gets a new epoch, so it is unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    seq: u64,
    index: u16,
}

impl From<EventPosition> for Place {
    fn from(EventPosition { seq, index, .. }: EventPosition) -> Self {
        Self { seq, index }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            u16::MAX => write!(f, "{}.end", self.seq),
            index => write!(f, "{}.{index}", self.seq),
        }
    }
}

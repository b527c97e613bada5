//! Errors of the broker and of the connections to it.

use std::{error::Error, fmt, io};

use lapin::ErrorKind;

/// Fault of the broker or of the connection to it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The AMQP client failed, or the broker closed the connection or the channel.
    #[error("AMQP operation failed")]
    Client(#[source] ClientError),
    /// The pool has no connection to give.
    #[error("failed to open a connection")]
    Pool(#[source] deadpool_lapin::PoolError),
    /// Something else than a broker listens there.
    #[error(
        "what listens at RABBITMQ_URL hangs up or does not speak AMQP 0-9-1: is it a TLS port, which \
         needs amqps://, or an HTTP port such as that of the management interface?"
    )]
    NotAmqp,
    /// The broker hangs up on a client that asks for a mechanism.
    #[error(
        "the broker hung up during the handshake: it may not offer the auth_mechanism in RABBITMQ_URL"
    )]
    Mechanism(#[source] ClientError),
    /// Nothing answers the first bytes of a connection in time.
    #[error(
        "the broker did not answer in time: does it hang, or is RABBITMQ_URL the address of a TLS port, \
         which needs amqps://, or of something that is no broker?"
    )]
    NoAnswer,
    /// The broker took too long.
    #[error("the broker did not answer in time")]
    Timeout,
    /// The connection, the channel or the consumer on it ended.
    #[error("the connection to the broker was lost")]
    Lost,
    /// The broker has no queue for a message.
    #[error("the queue of commands is missing; declaring it again")]
    Unroutable,
    /// The broker did not confirm a message.
    #[error("the broker did not accept the message")]
    NotAccepted,
}

/// Error of the AMQP client, in an operator's words.
pub struct ClientError(lapin::Error);

impl ClientError {
    pub(crate) fn kind(&self) -> &ErrorKind {
        self.0.kind()
    }

    /// Returns true if the other side ended the connection, or sent something else than AMQP.
    pub(crate) fn is_broken_off(&self) -> bool {
        match self.0.kind() {
            ErrorKind::ParsingError(_) => true,
            ErrorKind::IOError(error) => is_end(error),
            _ => false,
        }
    }
}

/// Returns true if the other side ended the connection.
pub(crate) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

impl From<lapin::Error> for BrokerError {
    fn from(error: lapin::Error) -> Self {
        Self::Client(ClientError(error))
    }
}

impl From<deadpool_lapin::PoolError> for BrokerError {
    fn from(error: deadpool_lapin::PoolError) -> Self {
        match error {
            deadpool_lapin::PoolError::Backend(error) => error.into(),
            error => Self::Pool(error),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            ErrorKind::ParsingError(_) => {
                formatter.write_str("what the broker sent is not AMQP 0-9-1")
            }
            ErrorKind::SerialisationError(_) => formatter.write_str("a frame cannot be encoded"),
            ErrorKind::InvalidChannelState(..) => formatter.write_str("the channel is closed"),
            ErrorKind::InvalidConnectionState(_) => formatter.write_str("the connection is closed"),
            // The library's text repeats its cause.
            ErrorKind::IOError(error) | ErrorKind::RuntimeShutdownError(error) => {
                error.fmt(formatter)
            }
            _ => self.0.fmt(formatter),
        }
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.0.kind() {
            ErrorKind::IOError(error) | ErrorKind::RuntimeShutdownError(error) => error.source(),
            _ => None,
        }
    }
}

//! Errors of the broker and of the connections to it.

/// Fault of the broker or of the connection to it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The AMQP client failed, or the broker closed the connection or the channel.
    #[error("AMQP operation failed")]
    Client(#[from] lapin::Error),
    /// The pool has no connection to give.
    #[error("failed to open a connection")]
    Pool(#[from] deadpool_lapin::PoolError),
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

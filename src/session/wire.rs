//! The connection from a session to its client, as the session sees it.

use crate::base::json_text::Json;

use crate::dialect::close::CloseReason;
use crate::dialect::message::Message;

/// How much may wait on a connection before a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Something newer follows: nothing may wait.
    Live,
    /// The message is safe in the log: a little may wait.
    Durable,
    /// The message exists nowhere else: much may wait.
    Reply,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    Taken,
    /// There is no room now. The transport calls [`Session::pump`](super::session::Session::pump) when there is.
    Full,
    /// The connection is gone.
    Gone,
}

/// The number of a request that the client wants answered. Clients may send more digits than 64 bits have.
pub type AckNumber = u128;

/// The connection from a session to its client. Nothing here waits.
pub trait Wire: Send + Sync {
    #[must_use]
    fn hand(&self, message: &Message, urgency: Urgency) -> Handed;

    /// Answers the request with this number.
    #[must_use]
    fn acknowledge(&self, ack: AckNumber, json: &Json) -> Handed;

    /// Asks the client to prove that it has received everything so far. The transport calls
    /// [`Session::proved`](super::session::Session::proved) when it has. Returns `false` if it cannot be asked, or was asked before.
    #[must_use]
    fn prove(&self) -> bool;

    /// Ends the connection. Unless the reason is final, the client comes back by itself.
    fn close(&self, reason: CloseReason);
}

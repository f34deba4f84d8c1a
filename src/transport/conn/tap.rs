//! How a protocol takes part in a connection. The connection knows no protocol: it shows the frames that pass to a tap on
//! each side, and tells its writers when there is room again.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::{Conn, ConnectionWriter};

/// Writes on a connection and is told when there is room again after [`Handed::Full`](crate::session::wire::Handed).
pub trait WaitsForRoom: Send + Sync {
    fn has_room(self: Arc<Self>);
}

/// A message to a tap. Only the protocol that made the tap knows its type.
pub type News = Box<dyn Any + Send>;

/// Something to do after the connection's lock is released.
pub type Then = Box<dyn FnOnce(&Arc<ConnectionWriter>) + Send>;

/// Serves a connection in place of the library that has read it so far.
pub type TakeOver = Box<dyn FnOnce(Conn, Arc<ConnectionWriter>) + Send>;

/// Looks at the frames that the library writes.
pub trait OutgoingTap: Send {
    fn tell(&mut self, news: News);

    /// Decides about one frame. `text` is its payload if it is a text frame. The connection is locked meanwhile.
    fn see(&mut self, text: Option<&[u8]>) -> Verdict;
}

/// What becomes of a frame.
pub struct Verdict {
    pub fate: Fate,
    /// Sessions may write after this frame.
    pub opens: bool,
    pub then: Option<Then>,
}

pub enum Fate {
    Pass,
    Replace(Bytes),
    Drop,
    /// The frame is a ping that the client is not shown. The incoming tap answers it.
    AnswerPing,
}

impl From<Fate> for Verdict {
    fn from(fate: Fate) -> Self {
        Self { fate, opens: false, then: None }
    }
}

/// Looks at what is read before the library gets it.
pub trait IncomingTap: Send {
    fn tell(&mut self, news: News);

    /// The library asks for more, so it has dealt with every message that it was given whole. If something is returned, it
    /// gets the connection, and the library sees the end of the stream.
    fn asked(&mut self) -> Option<TakeOver>;

    /// Gives the library what it had no room for earlier. Returns whether there was something.
    fn give(&mut self, to: &mut ReadBuf<'_>) -> bool;

    /// Answers a ping that the client was not shown. Returns `false` while a frame is being passed on.
    fn pong(&mut self, to: &mut ReadBuf<'_>) -> bool;

    /// Waits until more may be read. What was kept back until then is taken now, as by [`take`](Self::take).
    fn poll_ready(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<()>;

    /// Takes what was read. What is for the library goes to `to`.
    fn take(&mut self, bytes: &mut [u8], to: &mut ReadBuf<'_>);
}

//! A client that was refused before all of its request was read may still send. If its connection were closed at once, the
//! kernel would reset it, and the answer could be lost on the way. So what still comes is read for a while, and thrown away.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::pipe::Input;
use super::writer::ConnectionWriter;

/// How long a client may go on.
const LONGEST: Duration = Duration::from_secs(5);
/// How much it may still send, in bytes.
const MOST: usize = 32 * 1024 * 1024;
/// Bytes that are read at a time.
const READ: usize = 16 * 1024;

/// What is left of the patience with such a client.
pub(super) struct Linger {
    left: usize,
    end: Pin<Box<Sleep>>,
}

/// Whether this answer ends its connection, perhaps before all of its request was read.
pub(super) fn is_due<B>(response: &http::Response<B>) -> bool {
    response.headers().get(http::header::CONNECTION).is_some_and(|value| value == "close")
}

impl Linger {
    pub(super) fn begin() -> Self {
        Self { left: MOST, end: Box::pin(tokio::time::sleep(LONGEST)) }
    }

    /// Ready when the client has ended its side, or the patience is over.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Input,
        writer: &Arc<ConnectionWriter>,
    ) -> Poll<()> {
        let mut bytes = [0; READ];
        while !writer.is_dead() {
            let mut read = ReadBuf::new(&mut bytes);
            match input.poll_read(cx, &mut read, writer) {
                Poll::Pending => return self.end.as_mut().poll(cx),
                Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) => {}
            }
            let came = read.filled().len();
            self.left = self.left.saturating_sub(came);
            if came == 0 || self.left == 0 || self.end.is_elapsed() {
                break;
            }
        }
        Poll::Ready(())
    }
}

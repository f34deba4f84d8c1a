//! A TCP connection with TLS or without. All that is written is in one mutex anyway, so TLS needs no task of its own.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::writer::ConnectionWriter;

/// The most bytes that are encrypted at a time. What the kernel does not take of them waits here.
const PIECE: usize = 64 * 1024;
/// The most bytes that wait here: such a piece, and answers of the protocol.
const HELD: usize = 2 * PIECE;
/// How many encrypted bytes are read at a time.
const READ: usize = 4 * 1024;

/// TLS of one connection.
pub(super) struct Tls(Mutex<State>);

struct State {
    session: ServerConnection,
    /// Encrypted bytes for the client, of which the kernel has taken the first ones.
    encrypted: Vec<u8>,
    taken: usize,
    /// Decrypted bytes of the client, of which the first ones were read.
    plain: Vec<u8>,
    read: usize,
    /// The client has ended its side.
    ended: bool,
}

impl Tls {
    pub(super) fn new(mut session: ServerConnection) -> Arc<Self> {
        session.set_buffer_limit(None);
        let (encrypted, plain) = (Vec::new(), Vec::new());
        Arc::new(Self(Mutex::new(State { session, encrypted, taken: 0, plain, read: 0, ended: false })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self) -> usize {
        self.encrypted.len() - self.taken
    }

    /// Makes what the session has to send ready.
    fn encrypt(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.encrypted)?;
        }
        Ok(())
    }

    /// Writes what is encrypted, as far as the kernel takes it.
    fn flush(&mut self, tcp: &OwnedWriteHalf) -> io::Result<()> {
        while self.held() > 0 {
            match send(tcp, &self.encrypted[self.taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        // An idle connection keeps no buffer.
        (self.encrypted, self.taken) = (Vec::new(), 0);
        Ok(())
    }

    /// Takes bytes of the client.
    fn decrypt(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && !self.ended {
            if self.session.read_tls(&mut bytes)? == 0 {
                return Ok(());
            }
            let state = self.session.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let before = self.plain.len();
            self.plain.resize(before + state.plaintext_bytes_to_read(), 0);
            self.session.reader().read_exact(&mut self.plain[before..])?;
            self.ended = state.peer_has_closed();
        }
        Ok(())
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let count = (self.plain.len() - self.read).min(buf.remaining());
        buf.put_slice(&self.plain[self.read..self.read + count]);
        self.read += count;
        if self.read == self.plain.len() {
            (self.plain, self.read) = (Vec::new(), 0);
        }
        count > 0
    }
}

/// The side that is read.
pub(super) struct Input {
    pub tcp: OwnedReadHalf,
    pub tls: Option<Arc<Tls>>,
}

impl Input {
    /// Reads as [`AsyncRead`] does. TLS may have to write something before it can read on.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        writer: &Arc<ConnectionWriter>,
    ) -> Poll<io::Result<()>> {
        let Some(tls) = &self.tls else { return Pin::new(&mut self.tcp).poll_read(cx, buf) };
        loop {
            {
                let mut state = tls.state();
                if state.give(buf) || state.ended {
                    return Poll::Ready(Ok(()));
                }
            }
            let mut bytes = [0; READ];
            let mut bytes = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut bytes))?;
            let mut state = tls.state();
            if bytes.filled().is_empty() {
                state.ended = true;
            }
            if state.held() > HELD {
                // The client asks for answers of the protocol, and reads none.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let decrypted = state.decrypt(bytes.filled());
            // Also why the client is refused.
            state.encrypt()?;
            let holds = state.held() > 0;
            drop(state);
            if holds {
                writer.write_held();
            }
            decrypted?;
        }
    }
}

/// The side that is written.
pub(super) struct Pipe {
    pub tcp: OwnedWriteHalf,
    pub tls: Option<Arc<Tls>>,
}

impl Pipe {
    /// Writes as much as there is room for.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => send(&self.tcp, bytes),
            Some(_) => self.send_parts(&[IoSlice::new(bytes)]),
        }
    }

    /// Writes as much of these parts as there is room for.
    pub(super) fn send_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.tcp.try_write_vectored(parts) };
        let mut state = tls.state();
        state.flush(&self.tcp)?;
        if state.held() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = 0;
        for part in parts {
            let piece = &part[..part.len().min(PIECE - written)];
            state.session.writer().write_all(piece)?;
            written += piece.len();
        }
        state.encrypt()?;
        state.flush(&self.tcp)?;
        Ok(written)
    }

    /// Bytes that were taken, and wait until the kernel takes them.
    pub(super) fn held(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.state().held())
    }

    /// Writes them, as far as the kernel takes them.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.state().flush(&self.tcp))
    }

    /// Ends the connection.
    pub(super) fn shut(&self, how: Shutdown) {
        if let Some(tls) = &self.tls {
            let mut state = tls.state();
            state.session.send_close_notify();
            if state.encrypt().is_ok() {
                let _ = state.flush(&self.tcp);
            }
        }
        let _ = SockRef::from(self.tcp.as_ref()).shutdown(how);
    }

    /// The kernel is to throw away what it still holds when the connection ends.
    pub(super) fn forget(&self) {
        if let Err(error) = SockRef::from(self.tcp.as_ref()).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "SO_LINGER cannot be set");
        }
    }
}

/// Sends without asking tokio first whether the socket is ready, which would touch memory that nothing else needs. If the
/// kernel refuses, tokio is told by a second try, so that it can report when the socket is ready again.
fn send(tcp: &OwnedWriteHalf, bytes: &[u8]) -> io::Result<usize> {
    match SockRef::from(tcp.as_ref()).send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.try_write(bytes),
        done => done,
    }
}

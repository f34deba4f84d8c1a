//! What a client posts while it polls: packet by packet, no faster than its sessions want it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::request::Parts;
use http::{StatusCode, header};
use http_body::Body as _;
use tokio::sync::SemaphorePermit;
use tokio::time::{timeout, timeout_at};

use super::decode::{Meaning, REFUSED, meaning};
use super::front::{Front, gone};
use super::packet::event_in;
use super::polling::PollingClient;
use super::posted::{Piece, Splitter};
use super::query;
use crate::base::address::ClientAddress;
use crate::base::clock::instant;
use crate::base::error::Refusal;
use crate::transport::limits::{Room, UnderWay};
use crate::transport::{body, conn, problem};

/// The longest time for which a post is held up in all. Clients give up after five seconds, and what they do not know to have
/// arrived they send again.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of one post. Nothing that a client collects in a day is as long.
const LONGEST_POST: usize = 16 * 1024 * 1024;

impl Front {
    /// Gives what a client posts to socketioxide.
    pub(super) async fn post(&self, request: Request, sid: &str, eio3: bool) -> Response {
        let (parts, posted) = request.into_parts();
        let of_bytes = eio3
            && parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream");
        let Some(client) = self.clients.get(sid) else {
            // Nothing is read for a client that is not known.
            return body::ends(self.engine.call(Request::from_parts(parts, Body::empty())).await);
        };
        let length = usize::try_from(posted.size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let admitted = match self.admit(&parts, length, &client).await {
            Ok(admitted) => admitted,
            Err(refusal) => return body::ends(problem::respond(&refusal)),
        };
        if of_bytes {
            return match body::read(posted, self.body_limit.min(admitted.limit)).await {
                Ok(body) => self.engine.call(Request::from_parts(parts, Body::from(body))).await,
                Err(refusal) => refusal,
            };
        }
        let mut packets =
            Packets { client: &client, eio3, ours: self.door.is_some(), ahead: client.writer().is_some() };
        let mut splitter = Splitter::new(eio3, self.longest());
        let (mut length, mut patience, mut answer) = (0, PATIENCE, None);
        let mut posted = posted.into_data_stream();
        let mut began = instant();
        loop {
            let Ok(bytes) = timeout_at(body::deadline(began, length), posted.next()).await else {
                let detail = "the body arrives too slowly";
                return body::ends(problem::plain(StatusCode::REQUEST_TIMEOUT, "timeout", detail));
            };
            let ended = bytes.is_none();
            match bytes {
                Some(Ok(bytes)) => {
                    length += bytes.len();
                    if length > admitted.limit {
                        return too_large(admitted.limit);
                    }
                    splitter.push(&bytes);
                }
                Some(Err(_)) => return gone(),
                None => splitter.end(),
            }
            while let Some(piece) = splitter.next() {
                let left = match piece {
                    Piece::Packet(packet) => packets.left_of(packet),
                    Piece::Long(begins, length) if long(&client, &begins, length) => None,
                    Piece::Long(..) => return too_large(self.longest()),
                    Piece::Broken => Some(Bytes::from_static(BROKEN)),
                };
                if let Some(left) = left {
                    let is_goodbye = matches!(&*left, b"1" | b"1:1");
                    let response = self.engine.post(sid, eio3, left).await;
                    if is_goodbye || response.status() != StatusCode::OK {
                        return response;
                    }
                    answer = Some(response);
                }
                began += hold(&client, &mut patience).await;
            }
            if ended {
                return match answer {
                    Some(answer) => answer,
                    None if length == 0 && self.door.is_some() => self.engine.post(sid, eio3, BROKEN).await,
                    // Whether the session is still there.
                    None => self.engine.call(Request::from_parts(parts, Body::empty())).await,
                };
            }
        }
    }
}

/// The right to post: one body of a client at a time, a few of a user, and of a stranger only if there is room.
struct Admitted<'a> {
    /// The most bytes of the body.
    limit: usize,
    _turn: Option<SemaphorePermit<'a>>,
    _share: Option<Share>,
}

impl Front {
    async fn admit<'a>(
        &self,
        parts: &Parts,
        length: usize,
        client: &'a PollingClient,
    ) -> Result<Admitted<'a>, Refusal> {
        let Some(gate) = self.gate() else {
            return Ok(Admitted { limit: LONGEST_POST, _turn: None, _share: None });
        };
        let turn = timeout(PATIENCE, client.posting.acquire()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refusal::RateLimited { retry_after_ms: 1_000 }) };
        let (limit, share) = if let Some(entry) = client.entries().first() {
            if let Some(connection) = parts.extensions.get::<conn::Handle>() {
                connection.authenticated();
            }
            (LONGEST_POST, Share::OfUser(gate.under_way(entry.session.principal()).await?))
        } else {
            let address = *parts.extensions.get::<ClientAddress>().ok_or(Refusal::Unavailable)?;
            gate.stranger(address).await?;
            // A stranger has nothing to say but a token.
            let limit = self.usual();
            (limit, Share::OfStranger(gate.room(address, length.min(limit)).await?))
        };
        Ok(Admitted { limit, _turn: Some(turn), _share: Some(share) })
    }
}

/// What a post takes of its client's share, until it is dropped.
enum Share {
    OfUser(#[expect(dead_code, reason = "held until the post is answered")] UnderWay),
    OfStranger(#[expect(dead_code, reason = "held until the body is read")] Room),
}

/// The packets of one post.
struct Packets<'a> {
    client: &'a PollingClient,
    eio3: bool,
    /// The sessions are Ordercast's own. A plain service gets every packet as it is.
    ours: bool,
    /// socketioxide has got a packet that changes something, so it gets the others too, to keep them in order. The same holds
    /// after a change of transports, when a post comes too late.
    ahead: bool,
}

impl Packets<'_> {
    /// What socketioxide gets of a packet. Events go straight to their session, and packets without a meaning are left out.
    fn left_of(&mut self, packet: Bytes) -> Option<Bytes> {
        let broken = || Some(Bytes::from_static(BROKEN));
        let Ok(text) = std::str::from_utf8(&packet) else {
            return if self.eio3 { broken() } else { Some(packet) };
        };
        if (self.eio3 && text.is_empty()) || (!self.ahead && self.hear(text)) {
            return None;
        }
        let meaning = if self.ours { meaning(text, self.eio3) } else { Meaning::Plain };
        match meaning {
            Meaning::Nothing => return None,
            Meaning::NothingIn(namespace) if self.client.entry(namespace.as_bytes()).is_some() => {
                return None;
            }
            Meaning::Broken => return broken(),
            Meaning::Plain | Meaning::NothingIn(_) => self.ahead |= text != "2" && text != "3",
        }
        if text.is_empty() {
            return broken();
        }
        if !self.eio3 {
            self.client.posted(&packet);
            if text == "1" {
                self.client.says_goodbye();
            }
            return Some(packet);
        }
        let mut framed = with_length(String::new(), text).into_bytes();
        let begins = framed.len() - packet.len();
        query::mend(&mut framed[begins..], [0; 4]);
        Some(framed.into())
    }

    /// Gives an event to its session. Returns `false` if it is for none.
    fn hear(&self, packet: &str) -> bool {
        let Some((namespace, ack, json)) = packet.strip_prefix("42").and_then(event_in) else { return false };
        let entry = self.client.entry(namespace.as_bytes()).filter(|entry| entry.session.is_in());
        entry.is_some_and(|entry| entry.inbox.event(json, ack))
    }
}

/// A body that both versions refuse.
const BROKEN: &[u8] = &[REFUSED];

/// Answers a message that is too long, if it is an event of a session.
fn long(client: &PollingClient, begins: &[u8], length: usize) -> bool {
    // The beginning may end within a character.
    let begins = String::from_utf8_lossy(begins);
    let Some((namespace, ack, json)) = begins.strip_prefix("42").and_then(event_in) else { return false };
    let entry = client.entry(namespace.as_bytes());
    entry.is_some_and(|entry| {
        entry.inbox.too_large(json, length, ack);
        true
    })
}

/// Waits as long as a session of the client wants no more. Returns how long.
async fn hold(client: &PollingClient, patience: &mut Duration) -> Duration {
    let mut held = Duration::ZERO;
    for entry in client.entries() {
        if entry.inbox.is_held() {
            let began = instant();
            let _ = timeout(*patience, entry.inbox.until_ready()).await;
            held += began.elapsed();
        }
    }
    *patience = patience.saturating_sub(held);
    held
}

fn too_large(limit: usize) -> Response {
    let detail = format!("the body or a packet in it has more than {limit} bytes");
    body::ends(problem::plain(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &detail))
}

/// A body of version 3 with one more packet.
pub(super) fn with_length(body: String, packet: &str) -> String {
    body + &packet.encode_utf16().count().to_string() + ":" + packet
}

/// The packets of a body of version 3, `<length>:<packet>…`, or `None` if it is not one. Lengths are in UTF-16 code units.
pub(super) fn lengths(body: &str) -> Option<Vec<&str>> {
    let (mut packets, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (length, after) = rest.split_once(':')?;
        let length: usize =
            length.parse().ok().filter(|_| length.bytes().all(|digit| digit.is_ascii_digit()))?;
        let mut units = 0;
        let end = after.char_indices().find(|(_, character)| {
            let ends = units == length;
            units += character.len_utf16();
            ends
        });
        let end = end.map_or(after.len(), |(end, _)| end);
        let (packet, next) = after.split_at(end);
        if packet.encode_utf16().count() != length {
            return None;
        }
        packets.push(packet);
        rest = next;
    }
    Some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_version_3() {
        assert_eq!(lengths("1:21:3"), Some(vec!["2", "3"]));
        assert_eq!(lengths("4:4é😀1:2"), Some(vec!["4é😀", "2"]));
        assert_eq!(lengths("0:1:2"), Some(vec!["", "2"]));
        for broken in ["1", "x:2", "2:2", "+1:2", "1:2x", ":2", "1:😀"] {
            assert_eq!(lengths(broken), None, "{broken}");
        }
    }
}

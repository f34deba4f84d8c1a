//! What nodes say to each other over Redis, in bytes: a header, fields and a tag. Whoever reaches Redis can read it, but without
//! the key of the cluster nobody can write it. New fields are appended, so that older nodes pass them over.
//!
//! | bytes | |
//! |---|---|
//! | 1 | version |
//! | 1 | kind |
//! | 2 | length of the fields |
//! | 2 | flags: which optional fields there are |
//! | 2 | number of the node |
//! | 6 | when it was sent: milliseconds since the Unix epoch, by the clock of the cluster |
//! | … | fields |
//! | 8 | tag: the beginning of HMAC-SHA256 over the channel, a zero byte and everything before the tag |

mod fields;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use self::fields::{Known, Reader, Writer, kind};
use crate::base::clock::Time;
use crate::base::config::is_disabled;
use crate::cluster::heads::Heads;
use crate::model::{Eta, Fix, OrderId, Provenance, UserId};

const VERSION: u8 = 1;
const HEADER: usize = 14;
const TAG: usize = 8;

/// One message of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The number of the node that sent it.
    pub node: u16,
    pub sent: Time,
    pub body: Body,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Live(Remote),
    /// There is something in the log up to this position.
    Log(i64),
    /// The same for the control log.
    Control(i64),
    /// A node listens for its own beats: milliseconds since it began, by its monotonic clock.
    Beat(u64),
    Ask {
        id: u64,
        question: Question,
    },
    Answer {
        id: u64,
        count: u64,
    },
    /// How far a node is in the logs.
    Heads(Heads),
}

/// A live event of another node.
#[derive(Clone, Debug, PartialEq)]
pub enum Remote {
    Moved(Moved),
    Expected(Expected),
}

/// A driver moved while carrying an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    pub order: OrderId,
    pub driver: UserId,
    pub fix: Fix,
    pub provenance: Provenance,
    pub eta: Option<Eta>,
    /// How many reports of the driver the node has accepted so far. What is lost on the way is made good by the next one.
    pub accepted: u32,
    /// The number of that node, as the frame has it.
    pub node: u16,
}

/// The ETA of an order changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub order: OrderId,
    pub customer: UserId,
    /// Who carries it.
    pub driver: Option<UserId>,
    pub eta: Eta,
}

/// What a node asks the others. The answer is a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// How many sockets does this user have?
    Presence(UserId),
    /// This user's tokens were revoked: how many sockets does that end?
    Revoked(UserId),
    /// This driver reports to the node that asks: how many reports count at the other one, if they report there, too?
    Reports(UserId),
    /// How many sockets does this user have that somebody looks at?
    Watching(UserId),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

/// Appends a frame for a channel.
pub fn write(frame: &Frame, channel: &str, key: &hmac::Key, out: &mut Vec<u8>) {
    let from = out.len();
    let mut writer = Writer { out, flags: 0 };
    writer.bytes(&[VERSION, kind(&frame.body), 0, 0, 0, 0]);
    writer.bytes(&frame.node.to_be_bytes());
    writer.time(frame.sent);
    writer.body(&frame.body);
    let flags = writer.flags;
    // Ids are bounded, so no frame comes near the limit.
    let length = u16::try_from(out.len() - from - HEADER).unwrap_or(u16::MAX);
    out[from + 2..from + 4].copy_from_slice(&length.to_be_bytes());
    out[from + 4..from + 6].copy_from_slice(&flags.to_be_bytes());
    let tag = tag(channel, &out[from..], key);
    out.extend_from_slice(&tag);
}

/// Reads the first of the frames in these bytes. Returns it, if its kind is known here, and what follows it.
///
/// # Errors
/// An error if the bytes are not a frame that a node of this cluster wrote for this channel.
pub fn read<'a>(
    bytes: &'a [u8],
    channel: &str,
    key: &hmac::Key,
) -> Result<(Option<Frame>, &'a [u8]), Forged> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Forged)?;
    let &[version, kind, l1, l2, f1, f2, n1, n2, ..] = header;
    let end = HEADER + usize::from(u16::from_be_bytes([l1, l2]));
    if version != VERSION || bytes.len() < end + TAG {
        return Err(Forged);
    }
    let (signed, rest) = bytes.split_at(end);
    let (theirs, rest) = rest.split_at(TAG);
    if !is_disabled("tag") {
        verify_slices_are_equal(&tag(channel, signed, key), theirs).map_err(|_| Forged)?;
    }
    let sent = Reader { bytes: &header[8..], flags: 0 }.time().ok_or(Forged)?;
    let mut reader = Reader { bytes: &signed[HEADER..], flags: u16::from_be_bytes([f1, f2]) };
    let node = u16::from_be_bytes([n1, n2]);
    let body = match reader.body(kind, node, sent) {
        Known::Yes(body) => Some(body),
        Known::No => None,
        Known::Broken => return Err(Forged),
    };
    Ok((body.map(|body| Frame { node, sent, body }), rest))
}

/// What all nodes of all versions make of an order's id: FNV-1a, with its bits mixed, because shards are chosen by it.
#[must_use]
pub fn hash(order: &OrderId) -> u64 {
    let fnv = order.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

fn tag(channel: &str, signed: &[u8], key: &hmac::Key) -> [u8; TAG] {
    let mut context = hmac::Context::with_key(key);
    context.update(channel.as_bytes());
    context.update(&[0]);
    context.update(signed);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
    tag
}

#[cfg(test)]
mod tests;

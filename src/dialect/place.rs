//! A client's place in its stream of durable events.

use std::fmt;

/// A place in the stream: the client has everything up to it. On the wire it is the *offset* of Socket.IO's
/// connection state recovery.
///
/// One event of the log may be several messages. The last message, and the place after a whole event, is the event's
/// position, `41`. The messages before it are `41.0`, `41.1`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    position: i64,
    part: u8,
}

/// Stands for all messages of an event.
const WHOLE: u8 = u8::MAX;

impl Place {
    /// After the whole event at a position.
    #[must_use]
    pub const fn after(position: i64) -> Self {
        Self { position, part: WHOLE }
    }

    /// After one message of an event: the one with this index of `count`.
    #[must_use]
    pub fn within(position: i64, index: usize, count: usize) -> Self {
        match u8::try_from(index) {
            Ok(part) if index + 1 < count && part < WHOLE => Self { position, part },
            _ => Self::after(position),
        }
    }

    /// The position of the newest event of which the client has a message.
    #[must_use]
    pub const fn position(self) -> i64 {
        self.position
    }

    /// The position of the newest event of which the client has every message.
    #[must_use]
    pub const fn complete(self) -> i64 {
        if self.part == WHOLE { self.position } else { self.position - 1 }
    }

    /// Parses an offset that a client sends back. `None` for text that the server never sends.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |digits: &str| digits.len() <= 19 && digits.bytes().all(|digit| digit.is_ascii_digit());
        let (position, part) = match text.split_once('.') {
            Some((position, part)) if plain(part) => {
                (position, part.parse().ok().filter(|part| *part < WHOLE)?)
            }
            Some(_) => return None,
            None => (text, WHOLE),
        };
        let position = plain(position).then(|| position.parse().ok()).flatten()?;
        Some(Self { position, part })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.part == WHOLE {
            write!(f, "{}", self.position)
        } else {
            write!(f, "{}.{}", self.position, self.part)
        }
    }
}

/// The offset of a durable message: the client's place, and its progress in a replay that it asked for. `41~7~2` is
/// position 41 and seq 7 in replay number 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    pub place: Place,
    pub replay: Option<Progress>,
}

/// A client's progress in a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub seq: i64,
    /// The number of the replay within the session.
    pub number: i32,
}

impl Offset {
    /// Parses an offset that a client sends back. `None` for text that the server never sends.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some((place, progress)) = text.split_once('~') else {
            return Some(Self { place: Place::parse(text)?, replay: None });
        };
        let (seq, number) = progress.split_once('~')?;
        let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let replay = (plain(seq) && plain(number))
            .then(|| Some(Progress { seq: seq.parse().ok()?, number: number.parse().ok()? }))
            .flatten()?;
        Some(Self { place: Place::parse(place)?, replay: Some(replay) })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replay {
            None => self.place.fmt(f),
            Some(Progress { seq, number }) => write!(f, "{}~{seq}~{number}", self.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut before = Place::after(0);
        for place in [
            Place::after(40),
            Place::within(41, 0, 3),
            Place::within(41, 1, 3),
            Place::within(41, 2, 3),
            Place::after(i64::MAX),
        ] {
            assert_eq!(Place::parse(&place.to_string()), Some(place));
            assert!(before < place, "{before} < {place}");
            before = place;
        }
        assert_eq!(Place::within(41, 2, 3), Place::after(41));
        assert_eq!((Place::within(41, 0, 2).complete(), Place::after(41).complete()), (40, 41));
    }

    #[test]
    fn a_replay_is_part_of_an_offset() {
        let place = Place::within(41, 0, 2);
        for (replay, text) in [(None, "41.0"), (Some(Progress { seq: 7, number: 2 }), "41.0~7~2")] {
            let offset = Offset { place, replay };
            assert_eq!((offset.to_string().as_str(), Offset::parse(text)), (text, Some(offset)));
        }
        for text in ["~", "41~", "41~7", "41~7~", "41~~2", "41~-7~2", "~7~2", "41~7~2~1", "41~7~99999999999"]
        {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_we_never_wrote_is_not_read() {
        for text in [
            "",
            ".",
            "1.",
            ".1",
            "-1",
            "+1",
            "1.255",
            "1.1.1",
            "a",
            " 1",
            "99999999999999999999",
            "1e3",
            "１",
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}

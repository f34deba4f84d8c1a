//! Engine.IO 4 and Socket.IO 5 as a client in the namespace `/realtime` reads and writes them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a server says in one text frame.
#[derive(Debug)]
pub enum Packet<'a> {
    /// Wants to be answered with [`PONG`].
    Ping,
    /// The socket is in the namespace. `pid` brings its session back.
    Joined {
        pid: Option<String>,
    },
    /// The socket may not be in the namespace; the message begins with a code.
    Refused {
        message: String,
    },
    /// The server has disconnected the socket, or closes the connection.
    Left,
    Event(Event<'a>),
    /// The answer to the request with this number.
    Answer {
        number: u64,
        body: &'a RawValue,
    },
    /// Nothing that a client has to do with, or nothing that it can read.
    Other,
}

/// An event: its name, its first argument, and the offset at the end of durable ones.
#[derive(Debug)]
pub struct Event<'a> {
    pub name: Cow<'a, str>,
    pub data: &'a RawValue,
    pub offset: Option<String>,
}

/// Answers [`Packet::Ping`].
pub const PONG: &str = "3";

impl<'a> Packet<'a> {
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        match text {
            "2" => Self::Ping,
            "1" => Self::Left,
            _ => Self::of_namespace(text).unwrap_or(Self::Other),
        }
    }

    fn of_namespace(text: &'a str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Joined {
            pid: Option<String>,
        }
        #[derive(Deserialize)]
        struct Refused {
            message: String,
        }
        let kind = text.get(..2)?;
        let rest = text.get(2..)?.strip_prefix("/realtime")?;
        if kind == "41" {
            return Some(Self::Left);
        }
        let rest = rest.strip_prefix(',')?;
        match kind {
            "40" => serde_json::from_str(rest).ok().map(|Joined { pid }| Self::Joined { pid }),
            "44" => serde_json::from_str(rest).ok().map(|Refused { message }| Self::Refused { message }),
            "42" => {
                let mut arguments = serde_json::from_str::<Vec<&RawValue>>(rest).ok()?.into_iter();
                let name = serde_json::from_str(arguments.next()?.get()).ok()?;
                let data = arguments.next().unwrap_or(RawValue::NULL);
                let offset = arguments.next().and_then(|offset| serde_json::from_str(offset.get()).ok());
                Some(Self::Event(Event { name, data, offset }))
            }
            "43" => {
                let (number, body) = rest.split_at(rest.find('[')?);
                let arguments = serde_json::from_str::<Vec<&RawValue>>(body).ok()?;
                let body = arguments.first().copied().unwrap_or(RawValue::NULL);
                Some(Self::Answer { number: number.parse().ok()?, body })
            }
            _ => None,
        }
    }
}

/// The packet that asks for the namespace.
#[must_use]
pub fn join(auth: &impl Serialize) -> String {
    format!("40/realtime,{}", json(auth))
}

/// The packet of an event; with a number, it wants an answer.
#[must_use]
pub fn emit(number: Option<u64>, event: &str, data: &impl Serialize) -> String {
    let number = number.map(|number| number.to_string()).unwrap_or_default();
    format!("42/realtime,{number}{}", json(&(event, data)))
}

/// Only what has members that are no text has no JSON, and nothing here has.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packets_of_a_server_are_read() {
        assert!(matches!(Packet::read("2"), Packet::Ping));
        assert!(matches!(Packet::read("1"), Packet::Left));
        assert!(matches!(Packet::read("41/realtime,"), Packet::Left));
        let Packet::Joined { pid: Some(pid) } = Packet::read(r#"40/realtime,{"sid":"a","pid":"b"}"#) else {
            panic!("joined")
        };
        assert_eq!(pid, "b");
        let Packet::Refused { message } = Packet::read(r#"44/realtime,{"message":"unauthorized: no"}"#)
        else {
            panic!("refused")
        };
        assert_eq!(message, "unauthorized: no");
        let Packet::Event(event) = Packet::read(r#"42/realtime,["e",{"a":1},"7"]"#) else { panic!("event") };
        assert_eq!((&*event.name, event.data.get(), event.offset.as_deref()), ("e", r#"{"a":1}"#, Some("7")));
        let Packet::Answer { number: 12, body } = Packet::read(r#"43/realtime,12[{"ok":true}]"#) else {
            panic!("answer")
        };
        assert_eq!(body.get(), r#"{"ok":true}"#);
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        for text in [
            "",
            "4",
            "42",
            "é2/realtime",
            "42/realtime,",
            "42/realtime,[]",
            "42/realtime,[1]",
            "43/realtime,x[]",
            "43/realtime,1",
            "42/other,[\"e\"]",
            "40/realtime,{",
            "0{}",
            "44/realtime,{}",
        ] {
            assert!(matches!(Packet::read(text), Packet::Other), "{text}");
        }
    }

    #[test]
    fn packets_of_a_client_are_written() {
        assert_eq!(join(&json!({"token": "t"})), r#"40/realtime,{"token":"t"}"#);
        assert_eq!(emit(Some(3), "e", &json!({"a": 1})), r#"42/realtime,3["e",{"a":1}]"#);
        assert_eq!(emit(None, "e", &()), r#"42/realtime,["e",null]"#);
    }
}

//! The `AsyncAPI` document names what the server sends and understands, at every door, and nothing else. That messages are as it
//! says is checked with a running server: `tests/clients/doors/asyncapi.test.mjs`.

use std::collections::{BTreeMap, BTreeSet};

use ordercast::describe;
use ordercast::dialect::Dialect;
use ordercast::dialect::names::{
    FollowRequest, NoticeEvent, OrdersTrackMessage, RawMessage, RawRequest, RealtimeEvent, RealtimeRequest,
    TrackingMessage, TrackingRequest, UNKNOWN, UNREADABLE, WsMessage,
};
use serde_json::{Value, json};

use crate::harness::{Server, TestDb};
use crate::layers::sources;

/// The channel of each dialect.
const CHANNELS: [(Dialect, &str); 6] = [
    (Dialect::Realtime, "realtime"),
    (Dialect::Shared, "shared"),
    (Dialect::Notices, "notices"),
    (Dialect::OrdersTrack, "ordersTrack"),
    (Dialect::Ws, "ws"),
    (Dialect::Tracking, "tracking"),
];

/// The messages of the channel's operations with this action.
fn messages(document: &Value, channel: &str, action: &str) -> Vec<Value> {
    let place = format!("#/channels/{channel}");
    let operations = document["operations"].as_object().expect("operations").values();
    operations
        .filter(|operation| operation["action"] == action && operation["channel"]["$ref"] == *place)
        .flat_map(|operation| operation["messages"].as_array().expect("messages"))
        .map(|message| {
            let pointer = message["$ref"].as_str().expect("a reference").trim_start_matches('#');
            document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} does not exist")).clone()
        })
        .collect()
}

fn names(document: &Value, channel: &str, action: &str) -> BTreeSet<String> {
    let name = |message: &Value| message["name"].as_str().map(ToOwned::to_owned);
    messages(document, channel, action).iter().filter_map(name).collect()
}

macro_rules! all {
    ($($name:ident),+) => { [$($name::ALL.iter().map(|one| one.as_str().to_owned()).collect::<Vec<_>>()),+].concat() };
}

/// What the server sends and understands at a door.
fn known(dialect: Dialect) -> [Vec<String>; 2] {
    match dialect {
        Dialect::Realtime => [all![RealtimeEvent], all![RealtimeRequest]],
        Dialect::Shared => [
            ["connected", "order:status_update", "driver:location_update", "order:eta_update", "error"]
                .map(ToOwned::to_owned)
                .to_vec(),
            ["subscribe:order", "unsubscribe:order", "order:tracking", "ping:latency"]
                .map(ToOwned::to_owned)
                .to_vec(),
        ],
        Dialect::Notices => [[all![NoticeEvent], vec!["error".to_owned()]].concat(), Vec::new()],
        Dialect::OrdersTrack => [all![OrdersTrackMessage, RawMessage], all![FollowRequest, RawRequest]],
        Dialect::Ws => [all![WsMessage, RawMessage], all![FollowRequest, RawRequest]],
        Dialect::Tracking => [all![TrackingMessage, RawMessage], all![TrackingRequest, RawRequest]],
    }
}

/// Checks that an object has the members of a schema: all that are required, and no others than are described.
pub fn as_described(schema: &str, object: &Value) {
    let document = describe::document();
    let schema = &document["components"]["schemas"][schema];
    let members = object.as_object().expect("an object");
    for name in schema["required"].as_array().expect("a list") {
        assert!(members.contains_key(name.as_str().expect("a name")), "{object} has no {name}");
    }
    for name in members.keys() {
        assert!(!schema["properties"][name].is_null(), "{object} has {name}, which is not described");
    }
}

#[test]
fn the_document_names_what_is_sent_and_understood() {
    let document = describe::document();
    assert_eq!(document["channels"].as_object().expect("channels").len(), Dialect::ALL.len());
    for (dialect, channel) in CHANNELS {
        let [events, requests] = known(dialect).map(BTreeSet::from_iter);
        assert_eq!(names(&document, channel, "send"), events, "{channel}");
        assert_eq!(names(&document, channel, "receive"), requests, "{channel}");
    }
}

#[test]
fn every_example_is_understood() {
    let document = describe::document();
    for (dialect, channel) in CHANNELS {
        for request in messages(&document, channel, "receive") {
            let name = request["name"].as_str().expect("a name");
            let examples = request["examples"].as_array().expect("examples");
            assert!(!examples.is_empty(), "{channel}: {name}");
            for example in examples {
                let payload = &example["payload"];
                let text = match dialect.namespace() {
                    Some(_) => json!([name, payload]).to_string(),
                    None => payload.to_string(),
                };
                let parsed = dialect.parse(&text, 500);
                assert!(parsed.command.is_ok(), "{channel}: {text}: {:?}", parsed.command);
                assert!(![UNKNOWN, UNREADABLE].contains(&parsed.event), "{channel}: {text}");
            }
        }
    }
}

#[test]
fn what_is_on_the_wire_is_in_the_document() {
    let document = describe::document();
    let described: BTreeMap<_, _> = CHANNELS
        .iter()
        .map(|(dialect, channel)| (dialect.as_str(), names(&document, channel, "send")))
        .collect();
    let wire = include_str!("dialects.txt");
    let (mut dialect, mut seen) = ("", BTreeSet::new());
    for line in wire.lines() {
        if let Some((name, _)) = line.split_once(" to [") {
            dialect = name;
        }
        let message = line.trim_start();
        let name = match message.split_once('[').filter(|(start, _)| start.starts_with("42")) {
            Some((_, event)) => event.split('"').nth(1),
            None => message.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next()),
        };
        let Some(name) = name.filter(|name| *name != "menu:changed") else { continue };
        assert!(described[dialect].contains(name), "{dialect} sends {name}, which is not described");
        seen.insert((dialect, name));
    }
    let dialects: BTreeSet<_> = seen.iter().map(|(dialect, _)| *dialect).collect();
    assert_eq!(dialects.len(), Dialect::ALL.len(), "the test reads what is in the file: {seen:?}");
}

#[test]
fn names_have_one_home() {
    let all =
        all![RealtimeEvent, RealtimeRequest, NoticeEvent, OrdersTrackMessage, WsMessage, TrackingMessage];
    // Words that mean something else elsewhere.
    let own = all.iter().filter(|name| name.contains(':') || name.contains('_'));
    let quoted: Vec<_> = own.map(|name| format!("\"{name}\"")).collect();
    for (path, code) in sources().iter().filter(|(path, _)| *path != "dialect/names.rs") {
        for name in &quoted {
            assert!(!code.contains(name), "{path} says {name}; names of messages are in dialect/names.rs");
        }
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let db = TestDb::sqlite();
    let server = Server::start(&db, &[]).await;
    assert_eq!(server.anonymous().get("/asyncapi.json").await.body, describe::document());
    server.stop().await;
}

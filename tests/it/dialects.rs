//! Compares every event in every dialect with `tests/it/dialects.txt`, which shows the exact messages for human
//! readers. After an intended change, `UPDATE=1 cargo test --test it dialects` rewrites the file.

use std::fmt::Write as _;
use std::sync::Arc;

use ordercast::base::clock::{Time, from_millis};
use ordercast::dialect::message::Telling;
use ordercast::dialect::message::{ForPublic, Message};
use ordercast::dialect::{Dialect, tracking};
use ordercast::model::Eta;
use ordercast::model::Forecast;
use ordercast::model::Party;
use ordercast::model::PastStatus;
use ordercast::model::TrackingSession;
use ordercast::model::{
    About, Announcement, Audience, Details, EtaChange, EventKind, FailureReason, Fix, Fulfilment, LiveEvent,
    Location, OrderEvent, Window,
};
use ordercast::model::{Chef, Customer, Delivery, Driver, Item, Order, OrderStatus, PaymentStatus, Quantity};
use ordercast::model::{OrderId, Point, Provenance, Sighting, Source, UserId};
use ordercast::transport::socketio::packet::event_frame;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/dialects.txt");

fn at(second: i64) -> Time {
    from_millis(1_704_067_800_000 + second * 1_000)
}

fn driver(id: &str) -> Driver {
    Driver { id: UserId::stored(id), name: format!("Name of {id}"), phone: Some("+233501234567".to_owned()) }
}

/// An order with all optional fields (`full`) or with none of them.
fn order(full: bool, status: OrderStatus, seq: i64) -> Order {
    let some = |text: &str| full.then(|| text.to_owned());
    Order {
        id: OrderId::stored("ord-1"),
        order_number: "RND-20240101-0001".to_owned(),
        tracking_number: some("TN-1"),
        customer: Customer { id: UserId::stored("ann"), name: "Ann".to_owned(), phone: some("+111") },
        chef: Chef {
            id: UserId::stored("carl"),
            name: "Carl".to_owned(),
            business_name: some("Carl's"),
            address: some("1 Stove St"),
            latitude: full.then_some(5.6),
            longitude: full.then_some(-0.2),
        },
        delivery: Delivery {
            address: "9 Door Rd".to_owned(),
            latitude: Some(5.6037),
            longitude: Some(-0.1869),
        },
        items: if full {
            vec![Item { name: "Jollof".to_owned(), quantity: Quantity::stored(2.0), unit_price: Some(4.5) }]
        } else {
            Vec::new()
        },
        total: full.then_some(9.0),
        currency: some("GHS"),
        notes: some("ring twice"),
        status,
        payment_status: if full { PaymentStatus::Completed } else { PaymentStatus::Pending },
        payment_confirmed_at: full.then(|| at(1)),
        driver: None,
        seq,
        estimated_delivery_time: None,
        kitchen_ready_at: None,
        details: Details::default(),
        created_at: at(0),
        updated_at: at(seq),
    }
}

fn event(kind: EventKind, order: Order, previous_status: OrderStatus, by: Option<&str>) -> OrderEvent {
    let past = |seq, status, changed_by: Option<&str>| PastStatus {
        seq,
        status,
        at: at(seq),
        changed_by: changed_by.map(ToOwned::to_owned),
        corrected: false,
    };
    OrderEvent {
        position: 40 + order.seq,
        kind,
        previous_status,
        changed_by: by.map(UserId::stored),
        note: None,
        reason: None,
        changed: Vec::new(),
        former_driver: None,
        history: vec![past(1, OrderStatus::Pending, Some("ann")), past(order.seq, order.status, by)],
        at: at(order.seq),
        order,
    }
}

fn with_driver(mut order: Order, id: &str) -> Order {
    order.driver = Some(driver(id));
    order
}

fn durable_events() -> Vec<(&'static str, OrderEvent)> {
    use OrderStatus::{
        Accepted, AssignedToDriver, Cancelled, Delivered, InTransit, PaymentConfirmed, Pending, PickedUp,
        Preparing, ReadyForPickup,
    };
    let mut reassigned =
        event(EventKind::Assigned, with_driver(order(true, PickedUp, 9), "dora"), PickedUp, Some("boss"));
    reassigned.former_driver = Some(UserId::stored("dan"));
    let mut unassigned =
        event(EventKind::Unassigned, order(true, ReadyForPickup, 7), AssignedToDriver, Some("boss"));
    unassigned.former_driver = Some(UserId::stored("dan"));
    vec![
        (
            "created, with everything",
            event(EventKind::Created, order(true, Pending, 1), Pending, Some("ann")),
        ),
        (
            "created, with as little as can be",
            event(EventKind::Created, order(false, Pending, 1), Pending, None),
        ),
        ("paid", event(EventKind::Payment, order(true, PaymentConfirmed, 2), Pending, Some("shop"))),
        (
            "paid late, which changes no status",
            event(EventKind::Payment, order(true, Preparing, 4), Preparing, Some("shop")),
        ),
        ("accepted", event(EventKind::Status, order(false, Accepted, 3), PaymentConfirmed, None)),
        ("preparing", event(EventKind::Status, order(false, Preparing, 4), Accepted, Some("carl"))),
        (
            "ready, and nobody has it",
            event(EventKind::Status, order(true, ReadyForPickup, 5), Preparing, Some("carl")),
        ),
        (
            "given to a driver early",
            event(EventKind::Assigned, with_driver(order(true, Accepted, 5), "dan"), Accepted, Some("boss")),
        ),
        (
            "given to a driver",
            event(
                EventKind::Assigned,
                with_driver(order(true, AssignedToDriver, 6), "dan"),
                ReadyForPickup,
                Some("boss"),
            ),
        ),
        ("taken from the driver", unassigned),
        ("given to another driver", reassigned),
        (
            "picked up",
            event(
                EventKind::Status,
                with_driver(order(true, PickedUp, 8), "dan"),
                AssignedToDriver,
                Some("dan"),
            ),
        ),
        (
            "in transit",
            event(EventKind::Status, with_driver(order(false, InTransit, 9), "dan"), PickedUp, Some("dan")),
        ),
        (
            "delivered",
            event(EventKind::Status, with_driver(order(true, Delivered, 10), "dan"), InTransit, Some("dan")),
        ),
        ("cancelled", event(EventKind::Status, order(false, Cancelled, 3), Accepted, Some("ann"))),
    ]
}

/// What a delivery business meets besides.
fn business_events() -> Vec<(&'static str, OrderEvent)> {
    use OrderStatus::{
        AssignedToDriver, Cancelled, Delivered, Failed, InTransit, PickedUp, Preparing, ReadyForPickup,
        Returned,
    };
    let mut failed =
        event(EventKind::Status, with_driver(order(true, Failed, 10), "dan"), InTransit, Some("dan"));
    failed.order.details.failure = Some(FailureReason::NobodyHome);
    failed.reason = Some("nobody_home".to_owned());
    let mut corrected =
        event(EventKind::Corrected, with_driver(order(false, InTransit, 11), "dan"), Delivered, Some("boss"));
    corrected.note = Some("the driver pressed the wrong button".to_owned());
    corrected.history[1].corrected = true;
    let mut updated =
        event(EventKind::Updated, with_driver(order(false, PickedUp, 9), "dan"), PickedUp, Some("shop"));
    updated.changed = vec!["delivery".into(), "scheduledFor".into()];
    (updated.order.delivery.latitude, updated.order.delivery.longitude) = (None, None);
    updated.order.details.scheduled_for = Some(Window { from: at(1_000), to: at(2_000) });
    let mut declined =
        event(EventKind::Unassigned, order(true, ReadyForPickup, 7), AssignedToDriver, Some("dan"));
    declined.former_driver = Some(UserId::stored("dan"));
    declined.reason = Some("too far".to_owned());
    declined.order.details.decline(UserId::stored("dan"));
    let mut fetched = event(EventKind::Status, order(false, ReadyForPickup, 5), Preparing, Some("carl"));
    fetched.order.details.fulfilment = Fulfilment::Collection;
    fetched.order.delivery = Delivery::default();
    vec![
        (
            "cancelled while it was offered",
            event(EventKind::Status, order(false, Cancelled, 6), ReadyForPickup, Some("carl")),
        ),
        ("could not be delivered", failed),
        (
            "returned",
            event(EventKind::Status, with_driver(order(true, Returned, 11), "dan"), Failed, Some("dan")),
        ),
        ("corrected", corrected),
        ("updated", updated),
        ("declined", declined),
        ("ready to be fetched", fetched),
        (
            "proven",
            event(EventKind::Proof, with_driver(order(false, InTransit, 10), "dan"), InTransit, Some("dan")),
        ),
    ]
}

fn live_events() -> Vec<(&'static str, LiveEvent)> {
    let location = |full: bool, status| {
        LiveEvent::Location(Location {
            about: Arc::new(About {
                order: with_driver(order(full, status, 8), "dan"),
                history: vec![PastStatus {
                    seq: 1,
                    status: OrderStatus::Pending,
                    at: at(1),
                    changed_by: Some("ann".to_owned()),
                    corrected: false,
                }],
            }),
            driver: UserId::stored("dan"),
            fix: Fix {
                place: Point::stored(5.6045, -0.1875),
                heading: full.then_some(90.0),
                speed: full.then_some(8.5),
                accuracy: full.then_some(5.0),
                recorded_at: at(50),
                received_at: at(51),
                mocked: false,
            },
            provenance: if full {
                Provenance { source: Source::Snapped, uncertainty: Some(3.25), reanchored: true }
            } else {
                Provenance::raw(None)
            },
            is_near: true,
            last_eta: full.then(|| Eta::overridden(at(651), at(51))),
            accepted: 1,
        })
    };
    let announce = |audience, data: &str| {
        let data = serde_json::from_str(data).expect("JSON");
        LiveEvent::Announcement(Announcement { audience, name: "menu:changed".to_owned(), data })
    };
    vec![
        ("a position, with everything", location(true, OrderStatus::InTransit)),
        ("a position, with as little as can be", location(false, OrderStatus::PickedUp)),
        ("a position, before the order is with the driver", location(true, OrderStatus::Preparing)),
        (
            "an ETA",
            LiveEvent::Eta(EtaChange {
                order: OrderId::stored("ord-1"),
                customer: UserId::stored("ann"),
                driver: None,
                eta: Eta::overridden(at(651), at(51)),
            }),
        ),
        ("an announcement", announce(Audience::Role(ordercast::model::Role::Driver), r#"{"menu":7}"#)),
        ("an announcement to one, of nothing", announce(Audience::User(UserId::stored("ann")), "null")),
    ]
}

fn tracking_session() -> TrackingSession {
    TrackingSession {
        id: tracking_id(),
        order: OrderId::stored("ord-1"),
        rider: UserId::stored("dan"),
        dropoff: Point::stored(5.6037, -0.1869),
        started_at: at(6),
    }
}

fn tracking_id() -> ordercast::model::TrackingId {
    ordercast::model::TrackingId::parse("TRK-0000000000000000000000").expect("an id")
}

/// The payload on the wire, without the header of the WebSocket frame.
fn wire(dialect: Dialect, frame: &Message) -> String {
    match (dialect.namespace(), &frame.of_session) {
        (Some(namespace), _) => {
            let bytes = event_frame(namespace, frame, frame.offset.as_deref());
            let (begin, _) = ordercast::transport::conn::websocket::first(&bytes).expect("a frame");
            String::from_utf8(bytes[begin..].to_vec()).expect("text")
        }
        (None, None) => frame.json.get().to_owned(),
        (None, Some(message)) => tracking::text(message, &tracking_session()).get().to_owned(),
    }
}

/// The expected content of the file.
fn render_all() -> String {
    let mut text = String::from("Every event in every dialect, as it is on the wire. See dialects.rs.\n");
    for (what, event) in durable_events().into_iter().chain(business_events()) {
        let has_driver = event.order.driver.is_some();
        let forecast = Forecast {
            eta: has_driver.then(|| Eta::overridden(at(651), at(51))),
            position: has_driver.then(|| Sighting::new((Point::stored(5.6045, -0.1875), at(50)), true)),
        };
        writeln!(text, "\n=== {what}").expect("text");
        for dialect in Dialect::ALL {
            let messages = dialect.render(&event, forecast, Telling::Live);
            if messages.is_empty() {
                writeln!(text, "{}: None", dialect.as_str()).expect("text");
            }
            for message in messages {
                writeln!(
                    text,
                    "{} to {:?}:\n  {}",
                    dialect.as_str(),
                    message.to,
                    wire(dialect, &message.message)
                )
                .expect("text");
                match &message.for_public {
                    ForPublic::Same => {}
                    ForPublic::Nothing => writeln!(text, "  for the public: None").expect("text"),
                    ForPublic::Other(frame) => {
                        writeln!(text, "  for the public: {}", wire(dialect, frame)).expect("text");
                    }
                }
            }
        }
    }
    for (what, event) in live_events() {
        writeln!(text, "\n=== {what}").expect("text");
        for dialect in Dialect::ALL {
            let (audience, frame) =
                (dialect.live_audience(&event), dialect.render_live(&event, Party::Staff));
            // Some dialects have no message for some events, for example for announcements.
            match (audience, frame) {
                (Some(audience), Some(frame)) => {
                    let public = if audience.public_too { "" } else { ", not to the public" };
                    writeln!(
                        text,
                        "{} to {:?}{public}:\n  {}",
                        dialect.as_str(),
                        audience.topics,
                        wire(dialect, &frame)
                    )
                    .expect("text");
                    if audience.key.is_some() {
                        let conflated = wire(dialect, &dialect.conflate(&frame, 3));
                        assert!(conflated.contains("\"conflated\":3"), "{conflated}");
                    }
                }
                (None, _) => writeln!(text, "{}: None", dialect.as_str()).expect("text"),
                (Some(_), None) => {
                    panic!("{}: an audience without a message: {what}", dialect.as_str())
                }
            }
        }
    }
    text
}

#[test]
fn every_event_in_every_dialect() {
    let now = render_all();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &now).expect("the file to be written");
    }
    let before = std::fs::read_to_string(FILE).expect("the file");
    for (before, now) in before.lines().zip(now.lines()) {
        assert_eq!(before, now);
    }
    assert_eq!(before.lines().count(), now.lines().count());
}

//! Somebody who reaches Redis, and is none of ours: they move nobody, and learn no password.

use chrono::TimeDelta;
use futures_util::StreamExt;
use ordercast::base::clock::Clock;
use ordercast::model::Role;
use ordercast::server;
use tokio_util::sync::CancellationToken;

use crate::bus::{fix, follower, hears_itself, metric, positions, two_nodes};
use crate::harness::{PATIENCE, Server, TestDb, assignment, settings, until};
use crate::redis_server::Redis;
use crate::socket::Socket;

/// The first frame of a live event after `act`, as somebody reads it who listens to Redis, with its channel.
async fn overheard(redis: &Redis, act: impl AsyncFnOnce()) -> (String, Vec<u8>) {
    let mut listener = redis.client().get_async_pubsub().await.expect("Redis");
    listener.psubscribe("ordercast1:l:*").await.expect("subscribed");
    act().await;
    let mut messages = listener.on_message();
    let message = tokio::time::timeout(PATIENCE, messages.next()).await.expect("in time").expect("a message");
    (message.get_channel_name().to_owned(), message.get_payload_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_reach_redis_move_nobody() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let (a, b) = two_nodes(&db, &redis.url()).await;
    a.order_with_driver("o1", "in_transit").await;
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    let mut customer = follower(&b, &redis, "o1").await;
    let (channel, frame) = overheard(&redis, async || {
        driver.ask("driver:location", fix(47.10)).await;
    })
    .await;
    assert_eq!(customer.event("driver:location_update").await["latitude"], 47.10);
    driver.ask("driver:location", fix(47.11)).await;
    assert_eq!(customer.event("driver:location_update").await["latitude"], 47.11);
    customer.discard_received();
    let publish =
        async |frame: &[u8]| -> i64 { redis.send(redis::cmd("PUBLISH").arg(&channel).arg(frame)).await };
    let (forged, dropped) =
        (metric(&b, "ordercast_bus_forged_total").await, metric(&b, "ordercast_bus_dropped_total").await);
    for index in [0, 20, frame.len() - 1] {
        let mut forged = frame.clone();
        forged[index] ^= 1;
        assert_eq!(publish(&forged).await, 1);
    }
    assert_eq!(publish(b"hello").await, 1);
    until("forged frames are counted", async || metric(&b, "ordercast_bus_forged_total").await == forged + 4)
        .await;
    // A real one again.
    assert_eq!(publish(&frame).await, 1);
    until("it is dropped", async || metric(&b, "ordercast_bus_dropped_total").await == dropped + 1).await;
    assert_eq!(positions(&mut customer).await, 0);
    // Nobody hears of a driver who does not carry the order any more, whatever other nodes tell.
    let reassigned = b.admin().post("/orders/o1/assign", assignment("driver2")).await;
    assert_eq!(reassigned.status, 200, "{}", reassigned.body);
    assert_eq!(publish(&frame).await, 1);
    until("it is dropped", async || metric(&b, "ordercast_bus_dropped_total").await == dropped + 2).await;
    assert_eq!(positions(&mut customer).await, 0);
    a.stop().await;
    b.stop().await;
}

/// A stranger may keep a frame, and show it to a node that has not heard of the driver since.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_long_ago_moves_nobody() {
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    let flags = ["--redis-url", &redis.url(), "--location-rate-per-second", "0"];
    let (a, b) = (Server::start(&db, &flags).await, Server::start_with_manual_clock(&db, &flags).await);
    a.order_with_driver("o1", "in_transit").await;
    hears_itself(&a).await;
    hears_itself(&b).await;
    let mut driver = Socket::connect(&a, "driver", Role::Driver).await;
    let mut customer = follower(&b, &redis, "o1").await;
    driver.ask("driver:location", fix(47.10)).await;
    assert_eq!(customer.event("driver:location_update").await["latitude"], 47.10);
    let dropped = metric(&b, "ordercast_bus_dropped_total").await;
    b.clock.advance(TimeDelta::seconds(20));
    driver.ask("driver:location", fix(47.11)).await;
    until("it is dropped", async || metric(&b, "ordercast_bus_dropped_total").await > dropped).await;
    assert_eq!(positions(&mut customer).await, 0);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_url_of_redis_is_not_repeated() {
    let Some(db) = TestDb::postgres().await else { return };
    let config = settings(&db, &["--redis-url", "redis://:hidden@127.0.0.1:port"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ended = server::run(config, Clock::System, listener, CancellationToken::new(), || ()).await;
    let error = ended.expect_err("no server").to_string();
    assert_eq!(error, "REDIS_URL: URL number 1 cannot be read");
}

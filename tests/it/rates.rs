//! The rate of a driver on several nodes.

use ordercast::model::Role;

use crate::bus::{fix, metric, two_nodes_with};
use crate::harness::{TestDb, until};
use crate::redis_server::Redis;
use crate::socket::Socket;

/// However many nodes a driver reports to, they have one rate.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_on_two_nodes_has_one_rate() {
    const BURST: usize = 10;
    let Some(db) = TestDb::postgres().await else { return };
    let Some(redis) = Redis::start() else { return };
    // So slow that no more than the burst is allowed while the test takes.
    let (a, b) = two_nodes_with(&db, &redis.url(), &["--location-rate-per-second", "0.05"]).await;
    a.order_with_driver("o1", "in_transit").await;
    let mut sockets = [
        Socket::connect(&a, "driver", Role::Driver).await,
        Socket::connect(&b, "driver", Role::Driver).await,
    ];
    // Both nodes get a report, and so learn of each other.
    for socket in &mut sockets {
        assert_eq!(socket.ask("driver:location", fix(47.0)).await["ok"], true);
    }
    until("both nodes listen to the order", async || redis.listeners().await == 2).await;
    let mut accepted = 2;
    for n in 0..4 * BURST {
        let (socket, other) = if n % 2 == 0 { (0, &b) } else { (1, &a) };
        let heard = metric(other, "ordercast_bus_lag_seconds_count").await;
        let answer = sockets[socket].ask("driver:location", fix(47.0)).await;
        if answer["ok"] == true {
            accepted += 1;
            until("the other node hears of it", async || {
                metric(other, "ordercast_bus_lag_seconds_count").await > heard
            })
            .await;
        }
    }
    // What was told before the nodes listened may be missed. Two bursts would be 20.
    assert!((BURST - 1..=BURST + 4).contains(&accepted), "{accepted}");
    a.stop().await;
    b.stop().await;
}

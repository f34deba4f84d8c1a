//! A bare relay on socketioxide, without tokens, checks or storage. It listens on the port in `PORT`. With `REDIS_URL` it is one of
//! several nodes, which tell each other through socketioxide's adapter for Redis.

use axum::serve::ListenerExt;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr, drivers::redis::redis_client};

/// What a client may do.
async fn connected<A: Adapter>(socket: SocketRef<A>) {
    socket.on("subscribe:order", async |socket: SocketRef<A>, Data::<Value>(ask), ack: AckSender<A>| {
        let order = ask["orderId"].as_str().unwrap_or_default().to_owned();
        socket.join(format!("order:{order}"));
        let _ = ack.send(&json!({"ok": true, "orderId": order}));
    });
    socket.on("driver:location", async |socket: SocketRef<A>, Data::<Value>(fix), ack: AckSender<A>| {
        #[expect(clippy::disallowed_methods, reason = "a bare relay has no injected clock")]
        let received_at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let room = format!("order:{}", fix["orderId"].as_str().unwrap_or_default());
        let update = json!({
            "orderId": fix["orderId"], "driverId": socket.id, "latitude": fix["latitude"],
            "longitude": fix["longitude"], "heading": fix["heading"], "speed": fix["speed"],
            "timestamp": received_at, "receivedAt": received_at, "ageMs": 0, "conflated": 0,
        });
        let _ = socket.within(room).emit("driver:location_update", &update).await;
        let _ = ack.send(&json!({"ok": true, "receivedAt": received_at}));
    });
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = axum::Router::new();
    let app = if let Ok(url) = std::env::var("REDIS_URL") {
        let client = redis_client::Client::open(format!("{url}?protocol=resp3"))?;
        let adapter = RedisAdapterCtr::new_with_redis(&client).await?;
        let (layer, io) = SocketIo::builder().with_adapter::<RedisAdapter<_>>(adapter).build_layer();
        io.ns("/realtime", connected).await?;
        app.layer(layer)
    } else {
        let (layer, io) = SocketIo::new_layer();
        io.ns("/realtime", connected);
        app.layer(layer)
    };
    let port: u16 = std::env::var("PORT")?.parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready");
    let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
    axum::serve(listener, app).await?;
    Ok(())
}

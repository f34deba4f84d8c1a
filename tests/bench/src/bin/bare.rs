//! A bare relay on socketioxide, without tokens, checks or storage. It listens on the port in `PORT`.

use axum::serve::ListenerExt;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (layer, io) = SocketIo::new_layer();
    io.ns("/realtime", async |socket: SocketRef| {
        socket.on("subscribe:order", async |socket: SocketRef, Data::<Value>(ask), ack: AckSender| {
            let order = ask["orderId"].as_str().unwrap_or_default().to_owned();
            socket.join(format!("order:{order}"));
            let _ = ack.send(&json!({"ok": true, "orderId": order}));
        });
        socket.on("driver:location", async |socket: SocketRef, Data::<Value>(fix), ack: AckSender| {
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
    });
    let port: u16 = std::env::var("PORT")?.parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}

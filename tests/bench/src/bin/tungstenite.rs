//! A bare relay on raw tokio-tungstenite, without tokens, checks or storage. It listens on the port in `PORT`.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// The watchers of each order: connections by number.
type Rooms = Rc<RefCell<HashMap<String, HashMap<u64, UnboundedSender<Message>>>>>;

#[tokio::main(flavor = "local")]
async fn main() -> anyhow::Result<()> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let rooms = Rooms::default();
    for number in 0.. {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let rooms = Rc::clone(&rooms);
        tokio::task::spawn_local(async move {
            // An error only ends this connection.
            let _ = connection(tcp, number, &rooms).await;
            rooms.borrow_mut().retain(|_, watchers| {
                watchers.remove(&number);
                !watchers.is_empty()
            });
        });
    }
    Ok(())
}

async fn connection(tcp: TcpStream, number: u64, rooms: &Rooms) -> anyhow::Result<()> {
    // The default of 128 KiB per connection is meant for few connections with large messages.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let (sink, mut stream) = accept_async_with_config(tcp, Some(config)).await?.split();
    let (out, queue) = unbounded_channel();
    tokio::task::spawn_local(write(sink, queue));
    while let Some(message) = stream.next().await {
        let Message::Text(text) = message? else { continue };
        let request: Value = serde_json::from_str(&text)?;
        let data = &request["data"];
        let order = data["orderId"].as_str().unwrap_or_default();
        let answer = match request["event"].as_str() {
            Some("subscribe:order") => {
                rooms.borrow_mut().entry(order.to_owned()).or_default().insert(number, out.clone());
                json!({"ok": true, "orderId": order})
            }
            Some("driver:location") => locate(number, data, order, rooms),
            _ => json!({"ok": false}),
        };
        // `id` comes first, as in the answers of the other servers.
        let answer = format!("{{\"id\":{},\"data\":{answer}}}", request["id"]);
        out.send(Message::text(answer))?;
    }
    Ok(())
}

/// Sends one message, shared by all watchers of the order. Returns the answer to the driver.
fn locate(number: u64, fix: &Value, order: &str, rooms: &Rooms) -> Value {
    #[expect(clippy::disallowed_methods, reason = "a bare relay has no injected clock")]
    let received_at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let data = json!({
        "orderId": order, "driverId": number.to_string(), "latitude": fix["latitude"],
        "longitude": fix["longitude"], "heading": fix["heading"], "speed": fix["speed"],
        "timestamp": received_at, "receivedAt": received_at, "ageMs": 0, "conflated": 0,
    });
    let message = Message::text(format!("{{\"event\":\"driver:location_update\",\"data\":{data}}}"));
    if let Some(watchers) = rooms.borrow().get(order) {
        for watcher in watchers.values() {
            let _ = watcher.send(message.clone());
        }
    }
    json!({"ok": true, "receivedAt": received_at})
}

/// Writes all queued messages, then flushes once.
async fn write(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut queue: UnboundedReceiver<Message>,
) -> anyhow::Result<()> {
    while let Some(message) = queue.recv().await {
        sink.feed(message).await?;
        while let Ok(message) = queue.try_recv() {
            sink.feed(message).await?;
        }
        sink.flush().await?;
    }
    Ok(())
}

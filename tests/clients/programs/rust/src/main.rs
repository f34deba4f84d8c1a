//! rust_socketio as programs.test.mjs runs it: `TRANSPORT NAMESPACE BASE TOKEN ORDER`. Prints what happens, a JSON object a line.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rust_socketio::{ClientBuilder, Event, Payload, RawClient, TransportType};
use serde_json::{Value, json};

fn say(line: Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("stdout");
}

/// The arguments of an event or an ack. An ack comes as a list in a list.
fn arguments(payload: Payload) -> Vec<Value> {
    match payload {
        Payload::Text(arguments) => arguments,
        _ => Vec::new(),
    }
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [transport, namespace, base, token, order] = &given[..] else { panic!("five arguments") };
    let last = Arc::new(AtomicI64::new(0));
    let transport = match transport.as_str() {
        "polling" => TransportType::Polling,
        "upgrade" => TransportType::Any,
        _ => TransportType::Websocket,
    };
    let update = if namespace == "/" { "orderStatusUpdate" } else { "order:status_update" };
    let told = Arc::clone(&last);
    let (follows, from, is_default) = (order.clone(), Arc::clone(&last), namespace == "/");
    let _client = ClientBuilder::new(base)
        .namespace(namespace)
        .auth(json!({ "token": token }))
        .transport_type(transport)
        .reconnect(true)
        .reconnect_on_disconnect(true)
        .reconnect_delay(50, 200)
        .on(Event::Connect, move |_: Payload, client: RawClient| {
            say(json!({ "at": "connected" }));
            if is_default {
                return;
            }
            let since = from.load(Ordering::SeqCst);
            let request = if since == 0 {
                json!({ "orderId": follows })
            } else {
                json!({ "orderId": follows, "since": since })
            };
            let answered = |payload: Payload, _: RawClient| {
                let answer = arguments(payload).pop().unwrap_or_default();
                let answer = answer.get(0).cloned().unwrap_or(answer);
                say(json!({ "at": "ack", "ok": answer["ok"] }));
            };
            let _ = client.emit_with_ack("subscribe:order", request, Duration::from_secs(10), answered);
        })
        .on(update, move |payload, _| {
            let arguments = arguments(payload);
            let seq = arguments[0]["seq"].as_i64().unwrap_or_default();
            told.store(seq, Ordering::SeqCst);
            say(json!({ "at": "update", "seq": seq, "arguments": arguments.len() }));
        })
        .on(Event::Error, |payload, _| say(json!({ "at": "error", "what": format!("{payload:?}") })))
        .on(Event::Close, |_, _| say(json!({ "at": "closed" })))
        .connect()
        .expect("a connection");
    // Until the test ends this process.
    std::io::stdin().lines().for_each(drop);
}

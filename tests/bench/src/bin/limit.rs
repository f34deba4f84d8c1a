//! The upper limit that epoll and the kernel allow. One loop finds the order id in a report and writes prepared frames
//! to the watchers of that order. It has no tokens, checks, storage, JSON, clock or heartbeat, and drops a client that
//! does not read. It listens on the port in `PORT`.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::mem;

use anyhow::{Context, Result, ensure};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const LISTENER: Token = Token(usize::MAX);

/// Maximum number of frames in one write. More than one report of an order can arrive between two rounds.
const BURST: usize = 64;

#[derive(Default)]
struct Limit {
    /// Connections by number. A number is never reused.
    connections: Vec<Option<Connection>>,
    orders: Vec<Order>,
    numbers: HashMap<Vec<u8>, usize>,
    /// Orders with new reports since the last round.
    changed: Vec<usize>,
}

struct Connection {
    tcp: TcpStream,
    upgraded: bool,
    /// The beginning of a message whose end has not arrived yet.
    partial: Vec<u8>,
}

#[derive(Default)]
struct Order {
    /// The same frame [`BURST`] times; empty before the first report.
    frames: Vec<u8>,
    watchers: Vec<usize>,
    reports: usize,
}

fn main() -> Result<()> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut limit, mut buffer) = (Limit::default(), vec![0; 256 * 1024]);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut tcp, _)) = listener.accept() {
                    tcp.set_nodelay(true)?;
                    let token = Token(limit.connections.len());
                    poll.registry().register(&mut tcp, token, Interest::READABLE)?;
                    limit.connections.push(Some(Connection { tcp, upgraded: false, partial: Vec::new() }));
                }
            } else if limit.read(event.token().0, &mut buffer).is_err() {
                limit.connections[event.token().0] = None;
            }
        }
        limit.send_updates();
    }
}

impl Limit {
    /// Reads the requests of a client and answers them in one write. An error means that the client is gone.
    fn read(&mut self, number: usize, buffer: &mut [u8]) -> Result<()> {
        let Some(connection) = &mut self.connections[number] else { return Ok(()) };
        loop {
            let count = match connection.tcp.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                count => count?,
            };
            ensure!(count > 0, "gone");
            let mut bytes = mem::take(&mut connection.partial);
            bytes.extend_from_slice(&buffer[..count]);
            let (mut used, mut out) = (0, Vec::new());
            if !connection.upgraded {
                let Some(end) = find(&bytes, b"\r\n\r\n") else {
                    connection.partial = bytes;
                    return Ok(());
                };
                upgrade(&bytes[..end], &mut out)?;
                (connection.upgraded, used) = (true, end + 4);
            }
            while let Some((start, end)) = frame(&mut bytes[used..])? {
                let text = &bytes[used + start..used + end];
                used += end;
                if text.starts_with(b"40/realtime,") {
                    push_frame(&mut out, br#"40/realtime,{"sid":"limit"}"#);
                } else if let Some(request) = text.strip_prefix(b"42/realtime,") {
                    let digits = request.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let id = order(request).context("no order")?;
                    let order = *self.numbers.entry(id.to_vec()).or_insert_with(|| {
                        self.orders.push(Order::default());
                        self.orders.len() - 1
                    });
                    if request[digits..].starts_with(b"[\"subscribe:order\"") {
                        self.orders[order].watchers.push(number);
                    } else {
                        let Order { frames, reports, .. } = &mut self.orders[order];
                        if frames.is_empty() {
                            *frames = event(id).repeat(BURST);
                        }
                        if *reports == 0 {
                            self.changed.push(order);
                        }
                        *reports += 1;
                    }
                    let answer = [
                        b"43/realtime,",
                        &request[..digits],
                        br#"[{"ok":true,"receivedAt":"2026-11-21T12:00:00.000Z"}]"#,
                    ];
                    push_frame(&mut out, &answer.concat());
                }
            }
            connection.partial = bytes.split_off(used);
            if !out.is_empty() {
                ensure!(connection.tcp.write(&out)? == out.len(), "does not read");
            }
            // A short read has emptied the socket.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Sends new updates to the watchers of changed orders, with one write per watcher and burst.
    fn send_updates(&mut self) {
        for order in self.changed.drain(..) {
            let Order { frames, watchers, reports } = &mut self.orders[order];
            let frame_length = frames.len() / BURST;
            while *reports > 0 {
                let count = (*reports).min(BURST);
                watchers.retain(|number| {
                    let Some(connection) = &mut self.connections[*number] else { return false };
                    let bytes = &frames[..count * frame_length];
                    let is_sent = connection.tcp.write(bytes).is_ok_and(|sent| sent == bytes.len());
                    if !is_sent {
                        self.connections[*number] = None;
                    }
                    is_sent
                });
                *reports -= count;
            }
        }
    }
}

/// The frame of a `driver:location_update` for an order.
fn event(order: &[u8]) -> Vec<u8> {
    let pieces: [&[u8]; 3] = [
        br#"42/realtime,["driver:location_update",{"orderId":""#,
        order,
        br#"","driverId":"bench-driver-1000","latitude":52.366211,"longitude":4.900354,"heading":45,"speed":8.3,"timestamp":"2026-11-21T12:00:00.000Z","receivedAt":"2026-11-21T12:00:00.000Z","ageMs":0,"conflated":0}]"#,
    ];
    let mut frame = Vec::new();
    push_frame(&mut frame, &pieces.concat());
    frame
}

/// Accepts a WebSocket upgrade and opens the Engine.IO session.
fn upgrade(head: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let key = std::str::from_utf8(head)?
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-key").then_some(value))
        .context("no WebSocket")?;
    let accept = derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket";
    write!(out, "{head}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")?;
    let open =
        br#"0{"sid":"limit","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}"#;
    push_frame(out, open);
    Ok(())
}

/// The order id in a request.
fn order(request: &[u8]) -> Option<&[u8]> {
    const MEMBER: &[u8] = b"\"orderId\":\"";
    let id = &request[find(request, MEMBER)? + MEMBER.len()..];
    id.iter().position(|byte| *byte == b'"').map(|end| &id[..end])
}

/// Unmasks the frame at the beginning of `bytes` and returns the start and end of its payload; `None` if it is
/// incomplete.
fn frame(bytes: &mut [u8]) -> Result<Option<(usize, usize)>> {
    let (mask, length) = match *bytes {
        [_, 0xFE, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, length @ 0x80..=0xFD, ..] => (2, usize::from(length & 0x7F)),
        [] | [_] | [_, 0xFE, ..] => return Ok(None),
        _ => anyhow::bail!("not a short masked frame"),
    };
    let (start, end) = (mask + 4, mask + 4 + length);
    if bytes.len() < end {
        return Ok(None);
    }
    let (head, payload) = bytes[..end].split_at_mut(start);
    payload.iter_mut().zip(head[mask..].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some((start, end)))
}

/// Appends a text frame.
fn push_frame(out: &mut Vec<u8>, text: &[u8]) {
    out.push(0x81);
    match u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes() {
        [0, short @ ..=125] => out.push(short),
        long => {
            out.push(126);
            out.extend(long);
        }
    }
    out.extend_from_slice(text);
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

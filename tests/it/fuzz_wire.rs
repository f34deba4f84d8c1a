//! Random bytes against a running server, over HTTP polling and WebSockets, at every door: it answers, or closes, and
//! nothing in it panics. See `fuzz` for a long run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use ordercast::model::Role;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{PATIENCE, Server, TestDb};
use crate::mutate::bytes;

const POLLING: &str = include_str!("corpus/polling.txt");
const FRAMES: &str = include_str!("corpus/frames.txt");
const MESSAGES: &str = include_str!("corpus/messages.txt");
/// Clients at a time.
const CLIENTS: usize = 8;
/// Posts of one polling session.
const POSTS: usize = 16;

/// Panics anywhere but in tests, so in the server and in libraries under it.
fn panics() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static HOOK: LazyLock<()> = LazyLock::new(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_some_and(|place| !place.file().starts_with("tests/")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(panic);
        }));
    });
    LazyLock::force(&HOOK);
    &PANICS
}

/// A server without limits of rates, so that every case gets through to a parser.
async fn server() -> Server {
    let flags = [
        "--socket-requests-per-second=0",
        "--location-rate-per-second=0",
        "--unauthenticated-requests-per-second=0",
        "--address-requests-per-second=0",
        "--user-requests-per-second=0",
        "--user-bytes-per-second=0",
        "--user-requests-under-way=0",
        "--max-connections-per-address=0",
        "--max-handshakes-per-address=0",
    ];
    Server::start(&TestDb::sqlite(), &flags).await
}

/// Runs `case` with all clients at a time, as often as proptest is told to in all.
async fn run<C: Future<Output = ()> + Send>(
    server: &Server,
    inputs: impl Strategy<Value = Vec<u8>> + Clone + Send + 'static,
    client: impl Fn(Arc<Target>, Box<dyn FnMut() -> Option<Vec<u8>> + Send>) -> C,
) {
    let before = panics().load(Ordering::Relaxed);
    let token = server.token("u1", Role::Driver);
    let target = Arc::new(Target { address: server.address.to_string(), token });
    let config = Config::default();
    let share = usize::try_from(config.cases).expect("few").div_ceil(CLIENTS);
    let clients = (0..CLIENTS).map(|_| {
        let (inputs, mut runner, mut left) = (inputs.clone(), TestRunner::new(config.clone()), share);
        let next = move || {
            left = left.checked_sub(1)?;
            Some(inputs.new_tree(&mut runner).expect("a case").current())
        };
        client(Arc::clone(&target), Box::new(next))
    });
    futures_util::future::join_all(clients).await;
    assert_eq!(server.anonymous().get("/health").await.status, 200);
    assert_eq!(panics().load(Ordering::Relaxed), before, "something in the server panicked: see above");
}

struct Target {
    address: String,
    token: String,
}

/// An HTTP connection that is used again as long as the server keeps it.
struct Http(Option<TcpStream>);

impl Http {
    /// The status and the body of the answer; `None` if the server hung up.
    async fn ask(
        &mut self,
        target: &Target,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Option<(u16, Vec<u8>)> {
        let stream = match &mut self.0 {
            Some(stream) => stream,
            none => none.insert(TcpStream::connect(&target.address).await.expect("connected")),
        };
        let answer =
            tokio::time::timeout(PATIENCE, exchange(stream, method, path, body)).await.expect("an answer");
        if answer.is_none() {
            self.0 = None;
        }
        answer
    }
}

async fn exchange(stream: &mut TcpStream, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).await.ok()?;
    let mut answer = Vec::new();
    loop {
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next()?.trim().parse().ok());
            let length: usize = length.unwrap_or(0);
            if answer.len() >= head + length {
                let status = text.get(9..12)?.parse().ok()?;
                return Some((status, answer[head..head + length].to_vec()));
            }
        }
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Begins a polling session in a namespace. Returns its path.
async fn poll(http: &mut Http, target: &Target, version: u8) -> Option<String> {
    let path = format!("/socket.io/?EIO={version}&transport=polling");
    let (status, open) = http.ask(target, "GET", &path, b"").await?;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&open));
    let open = String::from_utf8_lossy(&open).into_owned();
    let sid = open.split("\"sid\":\"").nth(1)?.split('"').next()?;
    let path = format!("{path}&sid={sid}");
    let join = if version == 4 {
        format!("40/realtime,{}", json!({ "token": target.token }))
    } else {
        let join = format!("40/realtime?token={},", target.token);
        format!("{}:{join}", join.len())
    };
    let (status, _) = http.ask(target, "POST", &path, join.as_bytes()).await?;
    (status == 200).then_some(path)
}

async fn posts(target: Arc<Target>, version: u8, mut next: Box<dyn FnMut() -> Option<Vec<u8>> + Send>) {
    let mut http = Http(None);
    let mut session: Option<(String, usize)> = None;
    while let Some(body) = next() {
        if session.is_none() {
            session = poll(&mut http, &target, version).await.map(|path| (path, POSTS));
        }
        let Some((path, left)) = &mut session else { continue };
        let answer = http.ask(&target, "POST", path, &body).await;
        if let Some((status, _)) = &answer {
            assert!(*status < 500, "{status} for {:?}", String::from_utf8_lossy(&body));
        }
        *left -= 1;
        if *left == 0 {
            http.ask(&target, "POST", path, if version == 4 { b"1" } else { b"1:1" }).await;
        }
        if *left == 0 || answer.is_none_or(|(status, _)| status != 200) {
            session = None;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_bodies_of_version_4_are_answered() {
    let server = server().await;
    run(&server, Arc::new(bytes(POLLING)), |target, next| posts(target, 4, next)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_bodies_of_version_3_are_answered() {
    // Most of them with the length that they need to be read at all.
    let framed = bytes(POLLING).prop_map(|body| match String::from_utf8(body) {
        Ok(text) if !text.contains(':') || text.contains("{\"") => {
            format!("{}:{text}", text.chars().count()).into_bytes()
        }
        Ok(text) => text.into_bytes(),
        Err(other) => other.into_bytes(),
    });
    let server = server().await;
    run(&server, Arc::new(framed), |target, next| posts(target, 3, next)).await;
    server.stop().await;
}

fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()).expect("short") {
        length @ 0..=125 => frame.push(0x80 | length.to_be_bytes()[1]),
        length => {
            frame.push(0xFE);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(text);
    frame
}

/// Opens a WebSocket at each door in turn, sends a case, says no more, and reads to the end.
async fn frames(target: Arc<Target>, mut next: Box<dyn FnMut() -> Option<Vec<u8>> + Send>) {
    let token = &target.token;
    let doors = [
        (
            "/socket.io/?EIO=4&transport=websocket".to_owned(),
            format!("40/realtime,{}", json!({ "token": token })),
        ),
        ("/socket.io/?EIO=3&transport=websocket".to_owned(), format!("40/realtime?token={token},")),
        ("/socket.io/?EIO=4&transport=websocket".to_owned(), format!("40{}", json!({ "token": token }))),
        (format!("/ws?token={token}"), String::new()),
        (format!("/orders/track?token={token}"), String::new()),
        (format!("/ws/tracking/TRK-0000000000000000000000?token={token}"), String::new()),
    ];
    for (path, hello) in doors.iter().cycle() {
        let Some(case) = next() else { return };
        let mut stream = TcpStream::connect(&target.address).await.expect("connected");
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut answer).await.expect("an answer") > 0, "{path}");
        }
        if answer.starts_with(b"HTTP/1.1 503") {
            // A busy server may say that it is.
            continue;
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{path}: {}", String::from_utf8_lossy(&answer));
        let mut sent = Vec::new();
        if !hello.is_empty() {
            sent.extend(frame(hello.as_bytes()));
        }
        sent.extend(case);
        let ended = async {
            // The server may hang up before it took everything.
            let _ = stream.write_all(&sent).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut answer).await;
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_websockets_are_read_or_end_the_connection() {
    // Raw bytes, and packets and messages in frames of their own.
    let packets = bytes(POLLING).prop_map(|packet| frame(&packet));
    let messages = bytes(MESSAGES).prop_map(|message| frame(&message));
    let cases = proptest::prop_oneof![2 => bytes(FRAMES), 1 => packets, 1 => messages];
    let server = server().await;
    run(&server, Arc::new(cases), frames).await;
    server.stop().await;
}

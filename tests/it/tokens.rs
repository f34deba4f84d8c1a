//! Tokens that expire while their socket is connected, and revoked tokens.

use std::time::Duration;

use chrono::TimeDelta;
use ordercast::auth::mint;
use ordercast::model::Role;
use serde_json::{Value, json};

use crate::harness::{SECRET, Server, TestDb, until};
use crate::on_both_databases;
use crate::socket::Socket;

fn token(server: &Server, id: &str, seconds: u64) -> String {
    mint(SECRET, id, Role::Customer, None, server.clock.now(), Duration::from_secs(seconds)).expect("a token")
}

#[tokio::test]
async fn an_expired_token_can_be_refreshed_in_time() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    server.order("mine").await;
    let mut socket =
        Socket::connect_with_auth(&server, json!({"token": token(&server, "customer", 600)})).await;
    socket.event("connected").await;
    server.clock.advance(TimeDelta::seconds(539));
    assert!(socket.events_so_far().await.is_empty());
    server.clock.advance(TimeDelta::seconds(2));
    let ends = socket.event("token:expiring").await;
    server.clock.advance(TimeDelta::seconds(60));
    assert_eq!(socket.event("token:expired").await, ends);
    // The socket now gets no events, and may only refresh its token.
    server.admin().status("mine", "accepted").await;
    for (event, payload) in
        [("ping:latency", json!({"t": 1})), ("subscribe:order", json!({"orderId": "mine"}))]
    {
        assert_eq!(socket.ask(event, payload).await["error"]["code"], "token_expired");
    }
    for (wrong, code) in [
        (token(&server, "other", 600), "forbidden"),
        (server.token("customer", Role::Driver), "forbidden"),
        ("nonsense".to_owned(), "unauthorized"),
    ] {
        let refused = socket.ask("token:refresh", json!({"token": wrong})).await;
        assert_eq!(refused["error"]["code"], code, "{refused}");
    }
    assert_eq!(socket.ask("token:refresh", json!({"token": 5})).await["error"]["member"], "token");
    server.clock.advance(TimeDelta::seconds(20));
    let refreshed = socket.ask("token:refresh", json!({"token": token(&server, "customer", 600)})).await;
    assert_eq!(refreshed["ok"], true, "{refreshed}");
    assert!(refreshed["expiresAt"].as_str() > ends["expiresAt"].as_str());
    // The missed event arrives now, once.
    let heard = socket.events_so_far().await;
    let seqs: Vec<&Value> = heard.iter().map(|event| &event.data["seq"]).collect();
    assert_eq!(seqs, [&json!(2)]);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_is_closed_if_its_token_is_not_refreshed() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    server.order("mine").await;
    let mut socket =
        Socket::connect_with_auth(&server, json!({"token": token(&server, "customer", 600)})).await;
    socket.event("connected").await;
    server.clock.advance(TimeDelta::seconds(629));
    socket.event("token:expired").await;
    server.admin().status("mine", "accepted").await;
    server.clock.advance(TimeDelta::seconds(2));
    socket.until_closed().await;
    // A new token recovers the session.
    let (mut socket, recovered) = socket.reconnect(&server, &token(&server, "customer", 600)).await;
    assert!(recovered);
    assert_eq!(socket.event("order:status_update").await["seq"], 2);
    server.stop().await;
}

on_both_databases! {
    async fn a_revocation_ends_sessions_on_all_servers_for_good(db: TestDb) {
        let (here, elsewhere) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        let old = here.token("customer", Role::Customer);
        let mut sockets = Vec::new();
        for server in [&here, &here, &elsewhere] {
            let mut socket = Socket::connect_with_auth(server, json!({"token": old})).await;
            socket.event("connected").await;
            sockets.push(socket);
        }
        let mut bystander = Socket::connect(&here, "other", Role::Customer).await;
        let ended = here.admin().delete("/users/customer/sessions").await;
        let mut told = json!({"userId": "customer", "disconnected": 2});
        if let TestDb::Postgres { .. } = db {
            // Without Redis nobody says how many there were on the other one.
            told["partial"] = json!(true);
        }
        assert_eq!((ended.status, ended.body), (200, told));
        for socket in &mut sockets {
            socket.until_closed().await;
        }
        assert!(bystander.events_so_far().await.is_empty());
        assert_eq!(here.with_token(Some(old.clone())).delete("/users/other/sessions").await.status, 401);
        here.stop().await;
        let again = Server::start(&db, &[]).await;
        for server in [&elsewhere, &again] {
            assert_eq!(server.with_token(Some(old.clone())).get("/orders").await.status, 401);
            let mut refused = Socket::connect_with_auth(server, json!({"token": old})).await;
            assert_eq!(refused.refusal().await, "unauthorized: the token was revoked");
        }
        // A token that is issued later is valid.
        let later = again.clock.now() + TimeDelta::seconds(2);
        let new = mint(SECRET, "customer", Role::Customer, None, later, Duration::from_secs(60)).expect("a token");
        assert_eq!(again.with_token(Some(new)).get("/orders").await.status, 200);
        assert_eq!(again.api("chef", Role::Chef).delete("/users/other/sessions").await.status, 403);
        again.stop().await;
        elsewhere.stop().await;
    }
}

/// A token whose `iat` is that many seconds after now.
fn issued(server: &Server, seconds: i64) -> String {
    let now = server.clock.now().timestamp();
    // Tokens are the same only if all their claims are.
    let claims = json!({"sub": "customer", "role": "customer", "iat": now + seconds, "exp": now + 600, "jti": server.clock.uuid()});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

on_both_databases! {
    async fn a_revocation_tolerates_clocks_of_issuers(db: TestDb) {
        let (here, elsewhere) = (Server::start(&db, &[]).await, Server::start(&db, &[]).await);
        let status = async |server: &Server, token: &String| {
            server.with_token(Some(token.clone())).get("/orders").await.status
        };
        // Seen before: refused, also if the issuer's clock is ahead.
        let seen: Vec<String> = [5, 59, 0, -30].map(|seconds| issued(&here, seconds)).to_vec();
        for token in &seen {
            assert_eq!(status(&here, token).await, 200);
        }
        let seen_elsewhere = issued(&here, 30);
        assert_eq!(status(&elsewhere, &seen_elsewhere).await, 200);
        // Too old, however long the rest of this takes.
        let old: Vec<String> = [-70, -3600].map(|seconds| issued(&here, seconds)).to_vec();
        let ended = here.admin().delete("/users/customer/sessions").await;
        assert_eq!(ended.status, 200);
        for token in &seen {
            assert_eq!(status(&here, token).await, 401);
        }
        until("the other server knows of the revocation", async || status(&elsewhere, &seen_elsewhere).await == 401).await;
        until("and has told which tokens it had seen", async || status(&here, &seen_elsewhere).await == 401).await;
        // Not seen before: a login after the revocation, by an issuer whose clock is up to a minute slow, or ahead.
        let new: Vec<String> = [-50, -20, 2].map(|seconds| issued(&here, seconds)).to_vec();
        // From an issuer whose clock is ahead: it may be older than the revocation.
        let ahead: Vec<String> = [40, 59].map(|seconds| issued(&here, seconds)).to_vec();
        here.stop().await;
        let again = Server::start(&db, &[]).await;
        for server in [&elsewhere, &again] {
            for (tokens, expected) in [(&seen, 401), (&new, 200), (&ahead, 401), (&old, 401)] {
                for token in tokens {
                    assert_eq!(status(server, token).await, expected);
                }
            }
        }
        let mut socket = Socket::connect_with_auth(&again, json!({"token": new[0]})).await;
        socket.event("connected").await;
        again.stop().await;
        elsewhere.stop().await;
    }
}

#[tokio::test]
async fn a_token_on_its_way_while_tokens_are_revoked_is_refused() {
    let db = TestDb::sqlite();
    let server = Server::start_with_manual_clock(&db, &[]).await;
    let on_its_way = issued(&server, 0);
    server.clock.advance(TimeDelta::milliseconds(1_500));
    assert_eq!(server.admin().delete("/users/customer/sessions").await.status, 200);
    assert_eq!(server.with_token(Some(on_its_way)).get("/orders").await.status, 401);
    server.stop().await;
}

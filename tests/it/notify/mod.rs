//! Reaching people who are not connected: the whole way from a change of an order to a provider.

mod activities;
mod apns;
mod apple;
mod providers;
mod pushes;
mod queue;
mod seen;
mod texts;

use std::time::Duration;

use ordercast::base::clock::instant;
use ordercast::model::Role;
use serde_json::{Value, json};

use self::apple::Apple;
use self::providers::{Providers, key_file};
use crate::harness::{PATIENCE, Server, TestDb, until};

/// A key for tests.
const KEY: &str = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";

/// A server whose channels all lead to fakes.
struct Reached {
    server: Server,
    providers: Providers,
    _folder: tempfile::TempDir,
}

impl Reached {
    async fn start(db: &TestDb, more: &[&str]) -> Self {
        Self::start_with(db, Providers::start().await, more).await
    }

    /// One that also sends to Apple.
    async fn start_with_apple(db: &TestDb) -> (Self, Apple) {
        let apple = Apple::start().await;
        let mut providers = Providers::start().await;
        providers.apple = Some(apple.clone());
        (Self::start_with(db, providers, &[]).await, apple)
    }

    async fn start_with(db: &TestDb, providers: Providers, more: &[&str]) -> Self {
        Self::start_as(db, providers, more, true).await
    }

    /// With the clock of this machine: two nodes cannot have a clock that stands still.
    async fn start_node(db: &TestDb, providers: Providers) -> Self {
        Self::start_as(db, providers, &[], false).await
    }

    async fn start_as(db: &TestDb, providers: Providers, more: &[&str], is_manual: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = key_file(folder.path(), &providers.url);
        let url = providers.url.clone();
        let mut flags = vec![
            "--notify-key",
            KEY,
            "--fcm-key-file",
            &file,
            "--fcm-url",
            &url,
            "--expo-url",
            &url,
            "--vapid-subject",
            "mailto:ops@example.com",
            "--sms-provider",
            "twilio",
            "--twilio-account-sid",
            "AC1",
            "--twilio-auth-token",
            "secret",
            "--twilio-from",
            "+15550000",
            "--twilio-url",
            &url,
            "--public-url",
            "https://track.example.com",
            "--outbound-allow",
            "127.0.0.0/8",
            "--sms-rate-per-second",
            "100",
        ];
        flags.extend(more);
        flags.extend(providers.apple.iter().flat_map(Apple::flags));
        let server = if is_manual {
            Server::start_with_manual_clock(db, &flags).await
        } else {
            Server::start(db, &flags).await
        };
        Self { server, providers, _folder: folder }
    }

    /// Registers a device with Firebase.
    async fn device(&self, user: &str, role: Role, token: &str) {
        let api = self.server.api(user, role);
        let made = api.put(&format!("/devices/{token}"), json!({"kind": "fcm", "token": token})).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }

    /// What was sent of an order and what not.
    async fn lines(&self, order: &str) -> Vec<Value> {
        let list = self.server.admin().get(&format!("/orders/{order}/notifications?limit=200")).await;
        assert_eq!(list.status, 200, "{}", list.body);
        list.body["items"].as_array().expect("a list").clone()
    }

    /// Waits until a notification of this kind was tried and is to be tried again; returns its line.
    async fn tried(&self, order: &str, user: &str, kind: &str) -> Value {
        let mut line = Value::Null;
        until(&format!("{kind} to be tried"), async || {
            line = self.line(order, user, kind, "due").await;
            line["tries"] != 0
        })
        .await;
        line
    }

    /// Waits until a notification of this kind to this user is in this state; returns its line.
    async fn line(&self, order: &str, user: &str, kind: &str, state: &str) -> Value {
        let deadline = instant() + PATIENCE;
        loop {
            let lines = self.lines(order).await;
            let is = |line: &&Value| line["userId"] == user && line["kind"] == kind && line["state"] == state;
            if let Some(found) = lines.iter().find(is) {
                return found.clone();
            }
            assert!(instant() < deadline, "{kind} to {user} is not {state}: {lines:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

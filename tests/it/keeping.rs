//! What is kept, for how long, and what is forgotten.

use ordercast::base::clock::Clock;
use ordercast::base::db::Db;
use ordercast::model::Role;
use ordercast::recovery::{self, Recovery};
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;
use serde_json::json;

use crate::harness::{Server, settings};
use crate::on_both_databases;
use crate::socket::Socket;

on_both_databases! {
    async fn the_sessions_of_a_user_are_bounded_when_one_is_added(db: TestDb) {
        let server = Server::start(&db, &["--max-sessions-per-user", "3"]).await;
        let database = Db::connect(&db.url()).await.expect("database");
        server.order("o1").await;
        server.order("o2").await;
        let token = server.token("customer", Role::Customer);
        let mut sockets = Vec::new();
        for _ in 0..8 {
            let mut socket = Socket::connect(&server, "customer", Role::Customer).await;
            for order in ["o1", "o2"] {
                assert_eq!(socket.ask("subscribe:order", json!({"orderId": order})).await["ok"], true);
                socket.event("order:status_update").await;
            }
            sockets.push(socket);
            let sessions = entity::socket_session::Entity::find().all(database.reader()).await.expect("rows");
            let orders = entity::session_order::Entity::find().all(database.reader()).await.expect("rows");
            assert!(sessions.len() <= 3 && orders.len() <= 6, "{} {}", sessions.len(), orders.len());
        }
        // A connected client without a row goes on as before.
        assert_eq!(sockets[0].ask("unsubscribe:order", json!({"orderId": "o1"})).await["ok"], true);
        assert_eq!(sockets[0].ask("subscribe:order", json!({"orderId": "o1"})).await["ok"], true);
        assert_eq!(entity::session_order::Entity::find().all(database.reader()).await.expect("rows").len(), 6);
        for (number, socket) in sockets.into_iter().enumerate() {
            let (_socket, recovered) = socket.reconnect(&server, &token).await;
            assert_eq!(recovered, number >= 5, "session {number}");
            if !recovered {
                break;
            }
        }
        database.close().await;
        server.stop().await;
    }

    async fn a_sweep_goes_on_until_everything_old_is_gone(db: TestDb) {
        let database = Db::open(&db.url()).await.expect("database");
        let (recovery, _work) = Recovery::open(database.clone(), Clock::System, settings(&db, &[]).limits).await.expect("opened");
        let at = Clock::System.now() - chrono::TimeDelta::days(2);
        let session = |number: usize| entity::socket_session::ActiveModel {
            id: Set(format!("s{number}")), user_id: Set("u".to_owned()), socket: Set(String::new()), node: Set(String::new()),
            began_at: Set(at), held_at: Set(None), ended_at: Set(Some(at)),
        };
        for first in (0..1_200).step_by(400) {
            entity::socket_session::Entity::insert_many((first..first + 400).map(session)).exec_without_returning(database.writer()).await.expect("written");
        }
        recovery::sweep(&recovery).await.expect("swept");
        assert!(entity::socket_session::Entity::find().one(database.reader()).await.expect("read").is_none());
        database.close().await;
    }
}

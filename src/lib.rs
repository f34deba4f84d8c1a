//! Ordercast: live order tracking over Socket.IO.
//!
//! *Command* (asked) → *use case* (decides) → *Event* (happened) → *Log* (remembered) → *Bus*
//! (between nodes) → *Hub* (who listens here) → *Dialect* (how it is said) → *Transport* (how bytes move).
//! The README has the map and the walkthroughs.

pub mod app;
pub mod auth;
pub mod clock;
pub mod command;
pub mod config;
pub mod db;
pub mod demo;
pub mod dialect;
pub mod driver;
pub mod error;
pub mod event;
pub mod fanout;
pub mod id;
pub mod metrics;
pub mod order;
pub mod recovery;
pub mod server;
pub mod telemetry;
pub mod tracking;
pub mod transport;

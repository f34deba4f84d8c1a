//! Ordercast: live order tracking over Socket.IO.
//!
//! *Command* (a request) → *use case* (decides) → *event* (what happened) → *log* (durable) → *bus* (between nodes) →
//! *sessions* (who listens here) → *dialect* (how a client reads it) → *transport* (how bytes move).
//!
//! The modules are layers, listed here from the bottom to the top: each imports only what stands above it in this list.
//! `tests/it/layers.rs` holds them to it; `docs/architecture.md` has the map.

pub mod base;

pub mod model;

pub mod cluster;

pub mod auth;
pub mod dialect;
pub mod event;

pub mod backup;
pub mod keeping;
pub mod load;
pub mod order;
pub mod outbox;
pub mod recovery;
pub mod replay;
pub mod route;

pub mod webhook;

pub mod notify;

pub mod driver;
pub mod eta;

pub mod tracking;

pub mod app;

pub mod demo;
pub mod describe;
pub mod session;

pub mod transport;

pub mod server;

pub mod cli;

pub mod doctor;

/// Random input, for the tests of private parsers.
#[cfg(test)]
#[path = "../tests/it/mutate.rs"]
mod mutate;

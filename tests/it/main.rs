//! The real server on port 0, through a small client vocabulary. One file per behaviour.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod auth;
mod binary;
mod concurrency;
mod dialects;
mod fuzz;
mod group;
mod harness;
mod hostile;
mod layers;
mod location;
mod outage;
mod realtime;
mod recovery;
mod rest;
mod restart;
mod settings;
mod socket;
mod storage;
mod subscribe;
mod tokens;
mod tracking;

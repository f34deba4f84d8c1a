//! Tests of the complete server, each on its own free port and with small test clients. One file per area.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test reports its failure by a panic")]

mod auth;
mod binary;
mod concurrency;
mod dialects;
mod documents;
mod fixes;
mod fuzz;
mod fuzz_wire;
mod good_will;
mod group;
mod harness;
mod hostile;
mod keeping;
mod layers;
mod limits;
mod location;
mod mutate;
mod nodes;
mod outage;
mod postgres;
mod realtime;
mod recovery;
mod rest;
mod restart;
mod rights;
mod settings;
mod shaping;
mod socket;
mod storage;
mod strangers;
mod subscribe;
mod tls;
mod tokens;
mod tracking;
mod values;

//! The collector of traces.

use super::{Report, in_time};
use crate::base::config::Serve;
use crate::base::trace::reach;

const AREA: &str = "traces";

pub(super) async fn check(config: &Serve, report: &mut Report) {
    // What is wrong with the settings was said among them.
    if config.traces.otlp_endpoint.is_none() || config.traces.headers().is_err() {
        return;
    }
    match in_time(AREA, "the collector of OTLP_ENDPOINT", report, reach(&config.traces)).await {
        Some(Ok(())) => report.ok(AREA, "the collector of OTLP_ENDPOINT takes traces"),
        Some(Err(line)) => report.warn(
            AREA,
            format!("the collector of OTLP_ENDPOINT does not take traces: {line}"),
            "the server runs on, and its traces are dropped",
            "start it, and name the port of OTLP over HTTP, usually 4318 (4317 is gRPC)",
        ),
        None => {}
    }
}

//! The road network: whether its file loads.

use std::time::Duration;

use super::Report;
use crate::base::config::Serve;
use crate::route::network::Network;
use crate::route::read;

const AREA: &str = "roads";
/// A prepared file loads at once; an extract takes a minute for a country.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn check(config: &Serve, report: &mut Report) {
    let Some(file) = config.routing.road_network.clone() else { return };
    let (name, modes) = (file.display().to_string(), config.routing.road_modes.clone());
    let loading = tokio::task::spawn_blocking(move || read(&file, &modes, &|_| ()));
    let why = "ETAs are for the straight line then";
    match tokio::time::timeout(PATIENCE, loading).await {
        Ok(Ok(Ok(networks))) => {
            let segments: usize = networks.iter().map(Network::len).sum();
            report.ok(AREA, format!("{name} has {segments} segments of road"));
            let mode = config.routing.driver_mode;
            if !networks.iter().any(|network| network.mode() == mode) {
                report.warn(
                    AREA,
                    format!("{name} has no roads for DRIVER_MODE {}", mode.as_str()),
                    why,
                    format!(
                        "build it with `ordercast roads build --modes {}`, or correct DRIVER_MODE",
                        mode.as_str()
                    ),
                );
            }
        }
        Ok(Ok(Err(error))) => report.fail(
            AREA,
            format!("{name}: {error}"),
            why,
            "correct ROAD_NETWORK, or prepare the file anew with `ordercast roads build`",
        ),
        Ok(Err(_)) => report.fail(
            AREA,
            format!("{name} is damaged"),
            why,
            "prepare the file anew with `ordercast roads build`",
        ),
        Err(_) => report.warn(
            AREA,
            format!(
                "{name} was not loaded within {} s, so nobody knows whether it can be",
                PATIENCE.as_secs()
            ),
            "a server loads it beside its work, and ETAs are for the straight line until then",
            "prepare it once with `ordercast roads build`, and name the prepared file in ROAD_NETWORK",
        ),
    }
}

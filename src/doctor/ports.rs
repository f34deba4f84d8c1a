//! Ports: whether they are free, or held by an Ordercast, and whether other nodes reach this one.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream, lookup_host};

use super::{Report, in_time};
use crate::base::config::Serve;
use crate::server::{here, listen};

const AREA: &str = "ports";
/// How long somebody on this machine may take to answer.
const NEAR: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Health {
    status: String,
    version: String,
}

pub(super) async fn check(config: &Serve, report: &mut Report) {
    match listen(config.listen, config.reuse_port) {
        Ok(_) => report.ok(AREA, format!("{} is free", config.listen)),
        Err(error) => taken(config, &error, report).await,
    }
    nodes(config, report).await;
}

async fn taken(config: &Serve, error: &std::io::Error, report: &mut Report) {
    let address = config.listen;
    if error.kind() != ErrorKind::AddrInUse {
        return refused("ORDERCAST_LISTEN", address, error, report);
    }
    match ordercast_at(config).await {
        Some(version) => report.warn(
            AREA,
            format!("{address} is held by an Ordercast that answers (version {version})"),
            "a second one cannot listen there",
            "nothing, if that is the server you ask about; else stop it, or use --reuse-port on both to take over",
        ),
        None => report.fail(
            AREA,
            format!("{address} is held by another program"),
            "the server does not start",
            format!("stop that program (`ss -ltnp 'sport = :{}'` names it), or set ORDERCAST_LISTEN", address.port()),
        ),
    }
}

/// The version of the Ordercast that answers `/health` there.
async fn ordercast_at(config: &Serve) -> Option<String> {
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    // The certificate is for a name, and this asks an address of this machine.
    let client = reqwest::Client::builder().http1_only().danger_accept_invalid_certs(true).no_proxy();
    let client = client.timeout(NEAR).build().ok()?;
    let answer = client.get(format!("{scheme}://{}/health", here(config.listen))).send().await.ok()?;
    let health: Health = answer.json().await.ok()?;
    (health.status == "ok").then_some(health.version)
}

fn refused(setting: &str, address: SocketAddr, error: &std::io::Error, report: &mut Report) {
    let mend = match error.kind() {
        ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd), or use a higher one behind a proxy"
        }
        ErrorKind::AddrNotAvailable => "use an address that this machine has (`ip addr`), or 0.0.0.0 for all",
        ErrorKind::AddrInUse => "stop what listens there, or use another port",
        _ => "use another address",
    };
    report.fail(
        AREA,
        format!("{setting}: cannot listen on {address}: {error}"),
        "the server does not start",
        mend,
    );
}

/// Whether other nodes reach this one by the address that it tells them.
async fn nodes(config: &Serve, report: &mut Report) {
    let Some(listen) = config.cluster.cluster_listen else { return };
    // Held while it is tried, so that there is somebody to reach.
    let held = match TcpListener::bind(listen).await {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        Err(error) => return refused("CLUSTER_LISTEN", listen, &error, report),
    };
    let advertised = config.cluster.cluster_advertise.clone().unwrap_or_else(|| listen.to_string());
    if listen.port() == 0 && config.cluster.cluster_advertise.is_none() {
        report.ok(AREA, format!("{listen} is free for other nodes"));
        return;
    }
    let reaching = async {
        let addresses: Vec<_> = lookup_host(&advertised).await?.collect();
        match addresses.first() {
            Some(address) => TcpStream::connect(address).await.map(drop),
            None => Err(ErrorKind::NotFound.into()),
        }
    };
    let (why, mend) = (
        "requests of polling clients that reach another node cannot be handed to this one",
        "set CLUSTER_ADVERTISE to host:port of this machine as the other nodes see it, with the port of CLUSTER_LISTEN",
    );
    match in_time(AREA, &format!("{advertised} (CLUSTER_ADVERTISE)"), report, reaching).await {
        Some(Ok(())) if held.is_some() => {
            report.ok(
                AREA,
                format!("{listen} is free for other nodes, and {advertised} leads there from here"),
            );
        }
        Some(Ok(())) => report.warn(
            AREA,
            format!("CLUSTER_LISTEN {listen} is taken, and {advertised} answers"),
            "a second node cannot listen there",
            "nothing, if that is the server you ask about; else use another port",
        ),
        Some(Err(error)) => report.fail(
            AREA,
            format!("{advertised} (CLUSTER_ADVERTISE) cannot be reached: {error}"),
            why,
            mend,
        ),
        None => {}
    }
}

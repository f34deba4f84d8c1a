//! All clients disconnect and reconnect at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use crate::Target;
use crate::measure::cpu_seconds;
use crate::rest::{Rest, order_id};
use crate::socket::{self, ResumePoint, Socket};
use crate::wire::Packet;

#[derive(clap::Args)]
pub struct Options {
    /// Number of clients, each subscribed to an order
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// Number of orders. The clients are spread evenly over them
    #[arg(long, default_value_t = 500)]
    orders: usize,
    /// Shell command that restarts the server while the clients are disconnected. It gets the process id as an argument
    /// and prints the new one
    #[arg(long)]
    restart: Option<String>,
}

/// How long the server may take to restart, and the last client to recover.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    match &target.jwt_secret {
        Some(secret) => measure_recovery(target, options, secret).await,
        None => measure_connecting(target, options).await,
    }
}

/// For a bare relay, which cannot recover sessions: only connects the clients.
async fn measure_connecting(target: &Target, options: &Options) -> Result<Value> {
    let cpu = cpu_seconds(target.pid)?;
    let started = Instant::now();
    let connecting = (0..options.clients).map(|index| Socket::connect(target, "customer", index));
    let sockets = try_join_all(connecting).await?;
    let elapsed = started.elapsed().as_secs_f64();
    ensure!(sockets.len() == options.clients);
    Ok(json!({
        "clients": options.clients,
        "all_back_s": elapsed,
        "server_cpu_s": cpu_seconds(target.pid)? - cpu,
    }))
}

/// For Ordercast: clients recover their sessions and the events that they missed.
async fn measure_recovery(target: &Target, options: &Options, secret: &str) -> Result<Value> {
    let mut rest = Rest::connect(target.addr, secret).await?;
    for index in 0..options.orders {
        rest.create(index).await?;
    }
    let resume_points =
        socket::many(options.clients, async |index| watch(target, index % options.orders).await).await?;
    let mut pid = target.pid;
    if let Some(command) = &options.restart {
        drop(rest);
        let output = Command::new("sh").args(["-c", command, "restart", &pid.to_string()]).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        pid = String::from_utf8_lossy(&output.stdout).trim().parse().context("the new process")?;
        until_listening(target.addr).await?;
        rest = Rest::connect(target.addr, secret).await?;
    }
    for index in 0..options.orders {
        let path = format!("/orders/{}/payment/verify", order_id(index));
        rest.call(Method::POST, &path, &json!({})).await?;
    }
    let reads = log_reads(&mut rest).await?;
    let cpu = cpu_seconds(pid)?;
    let started = Instant::now();
    let recovering = resume_points.iter().map(|(index, resume)| recover(target, *index, resume));
    let sockets = tokio::time::timeout(PATIENCE, try_join_all(recovering)).await??;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(pid)? - cpu;
    let reads = log_reads(&mut rest).await? - reads;
    ensure!(sockets.len() == options.clients);
    Ok(json!({
        "clients": options.clients,
        "orders": options.orders,
        "restarted": options.restart.is_some(),
        "all_back_s": elapsed,
        "log_reads": reads,
        "server_cpu_s": cpu,
    }))
}

/// Connects a client, subscribes it to the `index`th order and disconnects it. Returns the state for its recovery.
async fn watch(target: &Target, index: usize) -> Result<(usize, ResumePoint)> {
    let (mut socket, pid) = Socket::resume(target, "customer", index, &ResumePoint::default()).await?;
    let order = json!({ "orderId": order_id(index) });
    socket.ask("subscribe:order", &order).await?;
    let offset = loop {
        if let Some(offset) = offset_of_update(&socket.next().await?) {
            break offset;
        }
    };
    Ok((index, ResumePoint { pid, offset: Some(offset) }))
}

/// Reconnects a client and waits for the event that it missed.
async fn recover(target: &Target, index: usize, resume: &ResumePoint) -> Result<Socket> {
    let (mut socket, pid) = Socket::resume(target, "customer", index, resume).await?;
    ensure!(pid == resume.pid, "not recovered");
    while offset_of_update(&socket.next().await?).is_none() {}
    Ok(socket)
}

/// The offset of an `order:status_update`, which is its last argument.
fn offset_of_update(packet: &Packet<'_>) -> Option<String> {
    let Packet::Event { name: b"order:status_update", data } = packet else { return None };
    let offset = data.strip_suffix(b"\"")?.rsplit(|byte| *byte == b'"').next()?;
    Some(String::from_utf8_lossy(offset).into_owned())
}

async fn log_reads(rest: &mut Rest) -> Result<f64> {
    let text = rest.call(Method::GET, "/metrics", &Value::Null).await?;
    let text = String::from_utf8_lossy(&text);
    let Some(line) = text.lines().find(|line| line.starts_with("ordercast_log_reads_total")) else {
        bail!("no log_reads_total in /metrics");
    };
    Ok(line.split_whitespace().last().unwrap_or_default().parse()?)
}

async fn until_listening(addr: SocketAddr) -> Result<()> {
    let started = Instant::now();
    while TcpStream::connect(addr).await.is_err() {
        ensure!(started.elapsed() < PATIENCE, "the restarted server does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

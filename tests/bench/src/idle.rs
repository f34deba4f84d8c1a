//! What an idle socket costs in resident memory.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Target,
    measure::{cpu_seconds, resident_kb},
    socket::{self, Socket},
};

/// Connected before the first reading, so that what is paid once is not counted.
const WARM_UP: usize = 200;

#[derive(clap::Args)]
pub struct Options {
    /// Sockets, each of its own user
    #[arg(long, default_value_t = 5000)]
    sockets: usize,
    /// Seconds between the last connection and the reading
    #[arg(long, default_value_t = 3.0)]
    settle: f64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let warm_up = connect(target, 0, WARM_UP).await?;
    sleep(Duration::from_secs_f64(options.settle)).await;
    let before = (resident_kb(target.pid)?, cpu_seconds(target.pid)?);
    let mut sockets = connect(target, WARM_UP, options.sockets).await?;
    let count = f64::from(u32::try_from(options.sockets)?);
    let connecting = cpu_seconds(target.pid)? - before.1;
    sockets.extend(warm_up);
    let mut tasks = JoinSet::new();
    for mut socket in sockets {
        // Answers pings, and notices a socket that the server closes.
        tasks.spawn_local(async move { while socket.next().await.is_ok() {} });
    }
    sleep(Duration::from_secs_f64(options.settle)).await;
    let after = resident_kb(target.pid)?;
    ensure!(tasks.try_join_next().is_none(), "the server closed an idle socket");
    Ok(json!({
        "sockets": options.sockets,
        "kb_per_socket": (after - before.0) / count,
        "rss_before_kb": before.0,
        "rss_after_kb": after,
        "cpu_ms_per_connect": connecting * 1000.0 / count,
    }))
}

async fn connect(target: &Target, first: usize, count: usize) -> Result<Vec<Socket>> {
    socket::many(count, async |index| Socket::connect(target, "customer", first + index).await).await
}

//! One listener of a room stops reading; what the others notice of it, and what it costs the server.
//!
//! Few reports to a big room would take minutes to fill the kernel's buffers of the one that does not read. So it also
//! follows an order of its own, whose driver reports a thousand times a second; before it stalls, too.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    Target,
    kernel::Kernel,
    load::{Load, Pace, Shape},
    measure::{merged, resident_kb},
    rest::{Rest, order_id},
    socket::Socket,
};

#[derive(clap::Args)]
pub struct Options {
    /// Sockets in the room, with the one that stalls
    #[arg(long, default_value_t = 1000)]
    listeners: usize,
    /// Reports per second to the room
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Reports per second to the one that stalls alone
    #[arg(long, default_value_t = 1000.0)]
    flood: f64,
    /// Seconds measured while all read, and again while one does not
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { listeners, rate, flood, seconds } = options;
    let others = listeners.saturating_sub(1);
    let shape = Shape { drivers: 1, orders: 1, watchers: others, staff: true };
    let mut load = Load::prepare(target, shape).await?;
    if let Some(secret) = &target.jwt_secret {
        Rest::connect(target.addr, secret).await?.on_the_way(1, 1).await?;
    }
    load.add_driver(Socket::connect(target, "driver", 1).await?, 0)?;
    let mut one = Socket::watcher(target, "admin", others, 0).await?;
    one.subscribe(&order_id(1)).await?;
    let one = load.add_bystander(one)?;

    let paces = [Pace { drivers: 0..1, rate }, Pace { drivers: 1..2, rate: flood }];
    load.open(&paces, 1.0)?;
    let half = |load: &mut Load| {
        let measured = load.measure(&paces, seconds)?;
        anyhow::Ok(merged(
            measured,
            json!({ "rss_kb": resident_kb(target.pid)?, "kernel_kb": Kernel::now()?.buffers_kb }),
        ))
    };
    let healthy = half(&mut load)?;
    load.engine.mute(one)?;
    let stalled = half(&mut load)?;
    Ok(json!({
        "listeners": listeners,
        "rate": rate,
        "flood": flood,
        "healthy": healthy,
        "stalled": stalled,
        "dropped": load.engine.is_cut(one),
    }))
}

//! One listener of a room stops reading. Measures the effect on the other listeners and on the server.
//!
//! A few reports per second would take minutes to fill the kernel's buffers of the stalled listener. So it also follows
//! another order, whose driver reports a thousand times per second. The flood already runs before the stall, so that
//! both measurements have the same load.

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
    /// Sockets in the room, including the one that stalls
    #[arg(long, default_value_t = 1000)]
    listeners: usize,
    /// Reports per second to the room
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Reports per second to the stalling socket only
    #[arg(long, default_value_t = 1000.0)]
    flood: f64,
    /// Seconds of each measurement: one while all sockets read, one while one socket does not
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { listeners, rate, flood, seconds } = options;
    let others = listeners.saturating_sub(1);
    let shape = Shape { drivers: 1, orders: 1, watchers: others, staff: true };
    let mut load = Load::prepare(target, shape).await?;
    if let Some(secret) = &target.jwt_secret {
        Rest::connect(target.addr, secret).await?.create_in_transit(1, 1).await?;
    }
    load.add_driver(Socket::connect(target, "driver", 1).await?, 0)?;
    let mut stalling = Socket::watcher(target, "admin", others, 0).await?;
    stalling.subscribe(&order_id(1)).await?;
    let stalling = load.add_bystander(stalling)?;

    let paces = [Pace { drivers: 0..1, rate }, Pace { drivers: 1..2, rate: flood }];
    load.open(&paces, 1.0)?;
    let measure = |load: &mut Load| {
        let measured = load.measure(&paces, seconds)?;
        anyhow::Ok(merged(
            measured,
            json!({ "rss_kb": resident_kb(target.pid)?, "kernel_kb": Kernel::now()?.buffers_kb }),
        ))
    };
    let healthy = measure(&mut load)?;
    load.engine.mute(stalling)?;
    let stalled = measure(&mut load)?;
    Ok(json!({
        "listeners": listeners,
        "rate": rate,
        "flood": flood,
        "healthy": healthy,
        "stalled": stalled,
        "dropped": load.engine.is_closed(stalling)?,
    }))
}

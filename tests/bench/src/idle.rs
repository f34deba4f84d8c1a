//! The cost of an idle socket: its memory, its CPU time, and the CPU time to connect it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    Target,
    engine::Engine,
    kernel::Kernel,
    measure::{Span, float, merged, resident_kb},
    rest::user_id,
    socket::{self, Socket},
    wire::Packet,
};

/// Sockets connected before the first measurement, so that one-time costs are not counted.
const WARM_UP: usize = 200;

/// Sockets connected at a time. In between, pings to the connected sockets are answered.
const CHUNK: usize = 500;

/// How long joining the rooms may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Options {
    /// Number of sockets, each with its own user
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Seconds between the last connection and the measurement
    #[arg(long, default_value_t = 3.0)]
    settle: f64,
    /// Seconds for which CPU time is measured. The default is the ping interval of the servers, so each socket gets one
    /// ping
    #[arg(long, default_value_t = 25.0)]
    idle_seconds: f64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { sockets, settle, idle_seconds } = options;
    let mut idle_sockets = IdleSockets { target, engine: Engine::new(target.wire)? };
    idle_sockets.connect(0, WARM_UP).await?;
    idle_sockets.join(0, WARM_UP)?;
    idle_sockets.idle(settle)?;
    let before = (resident_kb(target.pid)?, Kernel::now()?);

    let end = Span::begin(target.pid)?;
    idle_sockets.connect(WARM_UP, sockets).await?;
    let connecting = end()?;
    idle_sockets.join(WARM_UP, sockets)?;
    idle_sockets.idle(settle)?;
    let after = (resident_kb(target.pid)?, Kernel::now()?);

    let end = Span::begin(target.pid)?;
    idle_sockets.idle(idle_seconds)?;
    let idle = end()?;
    let (count, all) = (float(sockets as u64), float((sockets + WARM_UP) as u64));
    let slab = after.1.slab_kb.zip(before.1.slab_kb).map(|(after, before)| (after - before) / count);
    let result = json!({
        "sockets": sockets,
        "kb_per_socket": (after.0 - before.0) / count,
        "rss_before_kb": before.0,
        "rss_after_kb": after.0,
        "kernel_mem_kb_per_socket": (after.1.buffers_kb - before.1.buffers_kb) / count,
        "kernel_slab_kb_per_socket": slab,
        "connects_per_s": count / connecting.seconds,
        "cpu_ms_per_connect": connecting.server * 1000.0 / count,
        // Null if no CPU time was measured.
        "cpu_us_per_s_per_socket": (options.idle_seconds > 0.0).then(|| idle.server * 1e6 / idle.seconds / all),
    });
    Ok(merged(result, connecting.report(count)))
}

/// The idle sockets.
struct IdleSockets<'a> {
    target: &'a Target,
    engine: Engine,
}

impl IdleSockets<'_> {
    async fn connect(&mut self, first: usize, count: usize) -> Result<()> {
        for done in (0..count).step_by(CHUNK) {
            let connect = async |index| Socket::connect(self.target, "customer", first + done + index).await;
            for socket in socket::many(CHUNK.min(count - done), connect).await? {
                self.engine.add(socket)?;
            }
            self.idle(0.0)?;
        }
        Ok(())
    }

    /// Puts each socket into two rooms: its own, and one that all share. Ordercast does this by itself, with the rooms
    /// of the user and the role. A bare relay needs requests.
    fn join(&mut self, first: usize, count: usize) -> Result<()> {
        if self.target.jwt_secret.is_some() {
            return Ok(());
        }
        let mut missing = 2 * count;
        let begun = Instant::now();
        for index in first..first + count {
            for room in [user_id("user", index), "all".to_owned()] {
                self.engine.connections.request(
                    index,
                    0,
                    "subscribe:order",
                    &["{\"orderId\":\"", &room, "\"}"],
                )?;
            }
        }
        while missing > 0 {
            ensure!(begun.elapsed() < PATIENCE, "{missing} of {} rooms were not joined", 2 * count);
            self.engine.poll(Duration::from_millis(10), |_, _, packet, _| {
                missing -= usize::from(matches!(packet, Packet::Answer { .. }));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Answers pings. Fails if the server closes a socket.
    fn idle(&mut self, seconds: f64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // The timeout is rounded down to whole milliseconds. One more avoids a busy loop.
            self.engine.poll(left + Duration::from_millis(1), |_, _, _, _| Ok(()))?;
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}

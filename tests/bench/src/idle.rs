//! What a socket costs that does nothing: memory, CPU, and what it takes to connect it.

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

/// Connected before the first reading, so that what is paid once is not counted.
const WARM_UP: usize = 200;

/// Connected at a time, between looks at those who are connected: they may be pinged.
const CHUNK: usize = 500;

/// How long the rooms may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Options {
    /// Sockets, each of its own user
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Seconds between the last connection and the reading
    #[arg(long, default_value_t = 3.0)]
    settle: f64,
    /// Seconds in which CPU is measured; by default the period of the servers' pings, in which each socket has one
    #[arg(long, default_value_t = 25.0)]
    idle_seconds: f64,
}

pub async fn run(target: &Target, options: &Options) -> Result<Value> {
    let &Options { sockets, settle, idle_seconds } = options;
    let mut crowd = Crowd { target, engine: Engine::new(target.wire)? };
    crowd.connect(0, WARM_UP).await?;
    crowd.join(0, WARM_UP)?;
    crowd.idle(settle)?;
    let before = (resident_kb(target.pid)?, Kernel::now()?);

    let end = Span::begin(target.pid)?;
    crowd.connect(WARM_UP, sockets).await?;
    let connecting = end()?;
    crowd.join(WARM_UP, sockets)?;
    crowd.idle(settle)?;
    let after = (resident_kb(target.pid)?, Kernel::now()?);

    let end = Span::begin(target.pid)?;
    crowd.idle(idle_seconds)?;
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
        // Without a ping period there is nothing to say.
        "cpu_us_per_s_per_socket": (options.idle_seconds > 0.0).then(|| idle.server * 1e6 / idle.seconds / all),
    });
    Ok(merged(result, connecting.report(count)))
}

/// Idle sockets.
struct Crowd<'a> {
    target: &'a Target,
    engine: Engine,
}

impl Crowd<'_> {
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

    /// Each into two rooms, one of its own and one of all. Ordercast has put it into those of its user and its role; a
    /// bare relay is asked to.
    fn join(&mut self, first: usize, count: usize) -> Result<()> {
        if self.target.jwt_secret.is_some() {
            return Ok(());
        }
        let mut missing = 2 * count;
        let begun = Instant::now();
        for line in first..first + count {
            for room in [user_id("user", line), "all".to_owned()] {
                self.engine.lines.request(line, 0, "subscribe:order", &["{\"orderId\":\"", &room, "\"}"])?;
            }
        }
        while missing > 0 {
            ensure!(begun.elapsed() < PATIENCE, "{missing} of {} rooms were not joined", 2 * count);
            self.engine.turn(Duration::from_millis(10), |_, _, packet, _| {
                missing -= usize::from(matches!(packet, Packet::Answer { .. }));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Answer pings, and notice a socket that the server closes.
    fn idle(&mut self, seconds: f64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Whole milliseconds are slept, and this must not spin.
            self.engine.turn(left + Duration::from_millis(1), |_, _, _, _| Ok(()))?;
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}

//! What the kernel holds for TCP, in the whole machine. On loopback that is both ends of every connection, which cannot
//! be told apart.

use std::{fs, str::SplitWhitespace};

use anyhow::{Context, Result};

/// What there is.
pub struct Kernel {
    /// Pages with bytes in them that nobody has read.
    pub buffers_kb: f64,
    /// The sockets themselves; only root may know.
    pub slab_kb: Option<f64>,
}

impl Kernel {
    /// As it is now.
    pub fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/net/sockstat")?;
        let pages = number(&stat, "TCP:", |fields| fields.skip_while(|field| *field != "mem").nth(1));
        let slabs = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let count = number(&slabs, "TCP ", |mut fields| fields.nth(1));
        let size = number(&slabs, "TCP ", |mut fields| fields.nth(3));
        let slab_kb = count.zip(size).map(|(count, size)| count * size / 1024.0);
        Ok(Self { buffers_kb: pages.context("odd sockstat")? * PAGE_KB, slab_kb })
    }
}

const PAGE_KB: f64 = 4.0;

/// The number in a field of the line that begins so.
fn number<'a>(
    text: &'a str,
    line: &str,
    field: impl FnOnce(SplitWhitespace<'a>) -> Option<&'a str>,
) -> Option<f64> {
    let line = text.lines().find(|found| found.starts_with(line))?;
    field(line.split_whitespace())?.parse().ok()
}

//! Memory of the kernel for TCP on the whole machine. On loopback this includes both ends of each connection, which
//! cannot be separated.

use std::{fs, str::SplitWhitespace};

use anyhow::{Context, Result};

/// One measurement, in KB.
pub struct Kernel {
    /// Pages with bytes that were not read yet.
    pub buffers_kb: f64,
    /// The socket structures themselves; `None` without root rights.
    pub slab_kb: Option<f64>,
}

impl Kernel {
    /// Measures now.
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

/// The number in one field of the line that begins with `prefix`.
fn number<'a>(
    text: &'a str,
    prefix: &str,
    field: impl FnOnce(SplitWhitespace<'a>) -> Option<&'a str>,
) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(prefix))?;
    field(line.split_whitespace())?.parse().ok()
}

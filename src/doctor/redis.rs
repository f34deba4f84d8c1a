//! Each Redis of `REDIS_URL`.

use aws_lc_rs::hmac;

use super::{Open, Report, in_time};
use crate::base::clock::Clock;
use crate::base::config::Serve;
use crate::cluster::known_key;
use crate::event::bus::{Seen, Unseen, probe};

const AREA: &str = "redis";
/// The first version that has pushes beside answers.
const OLDEST: u32 = 6;

pub(super) async fn check(config: &Serve, db: Open<'_>, report: &mut Report) {
    let urls = config.cluster.redis_urls();
    if urls.is_empty() {
        if config.database.is_shared() && config.cluster.cluster_listen.is_some() {
            report.warn(
                AREA,
                "REDIS_URL is not set, and CLUSTER_LISTEN is",
                "followers on one node do not see drivers move who report to another one",
                "set REDIS_URL on all nodes, if there are several",
            );
        }
        return;
    }
    let key = match db {
        Some(db) => known_key(db).await.ok().flatten(),
        None => None,
    };
    for (index, url) in (0..).zip(&urls) {
        one(index, url, config, key.as_ref(), report).await;
    }
}

async fn one(index: u32, url: &str, config: &Serve, key: Option<&hmac::Key>, report: &mut Report) {
    let name = format!("Redis number {}", index + 1);
    let probing = probe(index, url, &config.cluster.redis_prefix, key, &Clock::System);
    let Some(probed) = in_time(AREA, &name, report, probing).await else { return };
    let why = "followers on one node do not see drivers move who report to another one";
    match probed {
        Ok(seen) => say(&name, &seen, config, report),
        Err(Unseen::Url(line)) => report.fail(
            AREA,
            line,
            "the server does not start",
            "write it as redis://user:password@host:6379/0, or rediss:// for TLS",
        ),
        Err(Unseen::Refused) => report.fail(
            AREA,
            format!("{name} refuses this user"),
            why,
            format!(
                "correct user and password in REDIS_URL, or allow `~{0}1:* &{0}1:* +@all` to it",
                config.cluster.redis_prefix
            ),
        ),
        Err(Unseen::Silent) => report.fail(
            AREA,
            format!("{name} does not answer"),
            why,
            "start it, and correct host and port in REDIS_URL (rediss:// if it speaks TLS)",
        ),
    }
}

fn say(name: &str, seen: &Seen, config: &Serve, report: &mut Report) {
    let Seen { version, policy, .. } = seen;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        report.fail(
            AREA,
            format!("{name} has version {version}"),
            "it has no pushes beside answers (RESP3), which the bus needs",
            "move to Redis 6 or newer, or to Valkey",
        );
    } else {
        report.ok(AREA, format!("{name} answers (version {version})"));
    }
    if seen.is_replica {
        report.fail(
            AREA,
            format!("{name} is a replica"),
            "it takes no writes, so last positions are not kept",
            "name the master in REDIS_URL",
        );
    }
    if seen.is_heard {
        report.ok(AREA, format!("{name} hands messages on"));
    } else {
        report.fail(
            AREA,
            format!("{name} does not hand messages on"),
            "nodes hear nothing of each other there",
            "allow channels to the user of REDIS_URL (`&*`), and look at what stands between",
        );
    }
    if seen.max_memory > 0 && policy == "noeviction" {
        report.warn(
            AREA,
            format!("{name} has maxmemory {} MB and the policy noeviction", seen.max_memory >> 20),
            "once its memory is full it refuses writes, and last positions are not kept",
            "set maxmemory-policy volatile-ttl or allkeys-lru; Ordercast keeps nothing there that may not go",
        );
    } else {
        let memory = if seen.max_memory == 0 {
            "no limit of memory".to_owned()
        } else {
            format!("the policy {policy}")
        };
        report.ok(AREA, format!("{name} has {memory}"));
    }
    if seen.foreign > 0 {
        report.fail(
            AREA,
            format!("{name} has positions of another Ordercast under {}", config.cluster.redis_prefix),
            "two systems would hear each other's frames and throw them away",
            "set another REDIS_PREFIX for one of them; if the database was made anew, wait ten minutes",
        );
    }
}

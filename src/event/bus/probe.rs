//! What a Redis server says of itself, and whether the bus would work over it. It leaves nothing behind there.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, PushInfo, PushKind, RedisResult};
use tokio::sync::mpsc;

use super::frame::read;
use super::redis::client;
use super::shard::Names;
use crate::base::clock::Clock;

/// Time for Redis to answer, and for a message to come round.
const RESPONSE_TIME: Duration = Duration::from_secs(2);
/// Keys that are looked at, and how many Redis looks at for that at a time.
const KEYS: usize = 8;
const AT_A_TIME: u32 = 1_000;
const ROUNDS: usize = 8;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Such as `7.0.15`.
    pub version: String,
    /// It only copies another one, and takes no writes.
    pub is_replica: bool,
    /// In bytes; 0 is no limit.
    pub max_memory: u64,
    /// What becomes of keys when the memory is full, such as `noeviction`.
    pub policy: String,
    /// A message came back on a channel of ours.
    pub is_heard: bool,
    /// Positions under our prefix that no node of this database has written.
    pub foreign: usize,
}

/// Why nothing was seen. The address is never repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// The URL cannot be read.
    Url(String),
    /// User or password are wrong, or the user may not do what the bus does.
    Refused,
    /// It does not answer, or answers what no Redis does.
    Silent,
}

/// Looks at the Redis server with this number in `REDIS_URL`. `key` is that of the nodes on this database.
///
/// # Errors
/// [`Unseen`].
pub async fn probe(
    index: u32,
    url: &str,
    prefix: &str,
    key: Option<&hmac::Key>,
    clock: &Clock,
) -> Result<Seen, Unseen> {
    let client = client(index, url).map_err(Unseen::Url)?;
    let (told, mut hears) = mpsc::unbounded_channel();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(RESPONSE_TIME))
        .set_response_timeout(Some(RESPONSE_TIME))
        .set_push_sender(told);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    let looked = async {
        let mut connection = connection?;
        let names = Names::new(prefix);
        let about = about(&mut connection).await?;
        let said = |name: &str| about.get(name).cloned().unwrap_or_default();
        let is_heard =
            hears_itself(&mut connection, &mut hears, names.common(&format!("doctor:{}", clock.uuid())))
                .await?;
        let foreign = match key {
            Some(key) => foreign(&mut connection, &names, key).await?,
            None => 0,
        };
        Ok(Seen {
            version: said("redis_version"),
            is_replica: said("role") == "slave",
            max_memory: said("maxmemory").parse().unwrap_or_default(),
            policy: said("maxmemory_policy"),
            is_heard,
            foreign,
        })
    };
    looked.await.map_err(|error: redis::RedisError| {
        let is_refused = matches!(error.kind(), ErrorKind::AuthenticationFailed)
            || matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS"));
        if is_refused { Unseen::Refused } else { Unseen::Silent }
    })
}

async fn about(connection: &mut MultiplexedConnection) -> RedisResult<HashMap<String, String>> {
    let text: String = redis::cmd("INFO").query_async(connection).await?;
    let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Whether a message to a channel that nobody else listens to comes back.
async fn hears_itself(
    connection: &mut MultiplexedConnection,
    hears: &mut mpsc::UnboundedReceiver<PushInfo>,
    channel: String,
) -> RedisResult<bool> {
    connection.subscribe(&channel).await?;
    let () = redis::cmd("PUBLISH").arg(&channel).arg("?").query_async(connection).await?;
    let message = async {
        while let Some(push) = hears.recv().await {
            if push.kind == PushKind::Message {
                return true;
            }
        }
        false
    };
    let is_heard = tokio::time::timeout(RESPONSE_TIME, message).await.unwrap_or(false);
    connection.unsubscribe(&channel).await?;
    Ok(is_heard)
}

/// How many of some positions under our prefix nobody with our key has written.
async fn foreign(
    connection: &mut MultiplexedConnection,
    names: &Names,
    key: &hmac::Key,
) -> RedisResult<usize> {
    let (beginning, mut cursor, mut found) = (names.common("p:"), 0_u64, Vec::new());
    for _ in 0..ROUNDS {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{beginning}*"))
            .arg("COUNT")
            .arg(AT_A_TIME)
            .query_async(connection)
            .await?;
        found.extend(keys);
        cursor = next;
        if cursor == 0 || found.len() >= KEYS {
            break;
        }
    }
    let mut foreign = 0;
    for name in found.iter().take(KEYS) {
        let value: Option<Vec<u8>> = redis::cmd("GET").arg(name).query_async(connection).await?;
        let channel = name.strip_prefix(&beginning).map(|order| names.common(&format!("l:{order}")));
        if let (Some(value), Some(channel)) = (value, channel)
            && read(&value, &channel, key).is_err()
        {
            foreign += 1;
        }
    }
    Ok(foreign)
}

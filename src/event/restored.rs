//! What a server does first on a database that was restored from a backup.
//!
//! Clients may have heard of events that the backup does not have. Their positions would mean something else once the log has
//! grown to them. So the head of the log jumps beyond all of those, and the floor with it: whoever comes back with a place from
//! before begins anew.
//!
//! A copy of `SQLite` is marked when it is made, or when it is put in its place. In `PostgreSQL` a restored table has another
//! number than the one that was dumped.

use entity::{log_head, server_key};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    Statement,
};

use super::forgetting;
use crate::base::db::{Db, FailureKind, failure_kind};
use crate::base::error::Refusal;

/// How far the head jumps: more than was written since the backup. A thousand events a second take eleven days for it.
pub const JUMP: i64 = 1_000_000_000;
/// The rows of `server_key`: the mark of a copy, where a database of `PostgreSQL` is, and how often this one was restored.
const COPY: &str = "copy";
const HOME: &str = "home";
const TIMES: &str = "restored";

/// Settles the log if this database was restored. Returns how often that has happened, ever.
///
/// # Errors
/// Those of the database.
pub async fn settle(db: &Db) -> Result<u32, Refusal> {
    let home = if db.is_shared() { Some(home(db).await?) } else { None };
    let tx = db.begin().await?;
    let mut lock = log_head::Entity::find_by_id(1);
    if db.is_shared() {
        lock = lock.lock_exclusive();
    }
    let head = lock.one(&tx).await?.ok_or_else(|| Refusal::internal("the log has no head row"))?;
    let times = value(&tx, TIMES).await?.and_then(|times| times.parse().ok()).unwrap_or(0_u32);
    let is_restored = match &home {
        // Before its first home it was in no other.
        Some(home) => value(&tx, HOME).await?.is_some_and(|before| before != *home),
        None => value(&tx, COPY).await?.is_some(),
    };
    if let Some(home) = home {
        put(&tx, HOME, home).await?;
    }
    if !is_restored {
        tx.commit().await?;
        return Ok(times);
    }
    let next = head.position + JUMP;
    let mut update = log_head::Entity::update_many()
        .col_expr(log_head::Column::Position, Expr::value(next))
        .filter(log_head::Column::Id.eq(1));
    if db.is_shared() {
        update = update.col_expr(log_head::Column::Timeline, Expr::cust("ordercast_timeline()"));
    }
    update.exec(&tx).await?;
    forgetting::raise_floor(&tx, next).await?;
    put(&tx, TIMES, (times + 1).to_string()).await?;
    server_key::Entity::delete_by_id(COPY).exec(&tx).await?;
    tx.commit().await?;
    tracing::warn!(
        after = head.position,
        next,
        "this database was restored from a backup: all clients begin anew"
    );
    Ok(times + 1)
}

/// Marks a copy of `SQLite`, so that the server that opens it settles it.
///
/// # Errors
/// Those of the database.
pub async fn mark(copy: &impl ConnectionTrait) -> Result<(), Refusal> {
    put(copy, COPY, "1".to_owned()).await
}

/// What is different once the tables were made anew by `pg_restore`: the numbers of database and table, and the number of the
/// installation, where it may be asked for.
async fn home(db: &Db) -> Result<String, Refusal> {
    let text = async |sql: &str| -> Result<Option<String>, DbErr> {
        let row = db
            .writer()
            .query_one_raw(Statement::from_string(db.writer().get_database_backend(), sql))
            .await?;
        row.map_or(Ok(None), |row| row.try_get("", "number"))
    };
    // Where it may not be asked for, the numbers of the tables say enough. A database that is away says nothing: to take that for
    // another installation would make all clients begin anew.
    let system = match text("SELECT system_identifier::text AS number FROM pg_control_system()").await {
        Err(error) if failure_kind(&error) == FailureKind::Outage => return Err(error.into()),
        system => system.ok().flatten().unwrap_or_default(),
    };
    let own = "SELECT concat_ws('/', oid, 'log_head'::regclass::oid) AS number
        FROM pg_database WHERE datname = current_database()";
    let own = text(own).await?.unwrap_or_default();
    Ok(format!("{system}/{own}"))
}

async fn value(tx: &DatabaseTransaction, name: &str) -> Result<Option<String>, Refusal> {
    Ok(server_key::Entity::find_by_id(name).one(tx).await?.map(|key| key.value))
}

async fn put(db: &impl ConnectionTrait, name: &str, value: String) -> Result<(), Refusal> {
    let row = server_key::ActiveModel { name: Set(name.to_owned()), value: Set(value) };
    let newer =
        OnConflict::column(server_key::Column::Name).update_column(server_key::Column::Value).to_owned();
    server_key::Entity::insert(row).on_conflict(newer).exec_without_returning(db).await?;
    Ok(())
}

//! Whether pending migrations may be applied while other nodes run.

use chrono::TimeDelta;
use entity::server_node::{Column, Entity};
use migration::{CONTRACTS, Migration, Migrator, MigratorTrait, SchemaManager};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    QueryFilter, QuerySelect, Statement,
};

use super::Schema;
use crate::base::clock::{Clock, Time};

/// A node that has said nothing for so long is dead.
const DEAD_AFTER: TimeDelta = TimeDelta::seconds(10);

/// Whether a newer version has migrated the database already. Then there is nothing to apply: this is a node of the older version
/// that starts again in the middle of a rolling update, or after one that is taken back.
///
/// # Errors
/// [`DbErr::Custom`] with a line for the operator if the newer version has removed what this one uses; those of the database.
pub(super) async fn is_ahead(tx: &DatabaseTransaction) -> Result<bool, DbErr> {
    let applied: Vec<_> =
        Migrator::get_migration_models(tx).await?.into_iter().map(|model| model.version).collect();
    match Schema::of(&applied) {
        Schema::Beyond { contract } => Err(DbErr::Custom(format!(
            "a newer version has removed what this one uses ({contract}); start that version"
        ))),
        schema => Ok(matches!(schema, Schema::Newer { .. })),
    }
}

/// Refuses if a pending migration is one of [`CONTRACTS`] and a node is alive that does not know it.
///
/// # Errors
/// [`DbErr::Custom`] with a line for the operator; those of the database.
pub(super) async fn check(tx: &DatabaseTransaction) -> Result<(), DbErr> {
    // A database without nodes, or from before they were recorded, has no node to ask for.
    if !SchemaManager::new(tx).has_table("server_node").await? {
        return Ok(());
    }
    let pending = Migrator::get_pending_migrations(tx).await?;
    let mut names = pending.iter().rev().map(Migration::name);
    let contract = names.find(|name| CONTRACTS.contains(name));
    let Some(contract) = contract else { return Ok(()) };
    let needed = Migrator::migrations().iter().position(|migration| migration.name() == contract);
    let needed = needed.and_then(|index| i32::try_from(index + 1).ok()).unwrap_or(i32::MAX);
    let alive = Column::SeenAt.gt(now(tx).await? - DEAD_AFTER);
    let (select, has_schema) =
        (Entity::find().filter(alive).select_only().column(Column::Id), has_schema(tx).await?);
    let older = if has_schema {
        let older = Column::Schema.is_null().or(Column::Schema.lt(needed));
        select.filter(older).into_tuple::<String>().all(tx).await?
    } else {
        select.into_tuple().all(tx).await?
    };
    match older.len() {
        0 => Ok(()),
        count => Err(DbErr::Custom(format!(
            "the migration {contract} changes what running nodes of older versions use ({count} of them); stop them first \
             (a node that was killed counts for {} s)",
            DEAD_AFTER.num_seconds()
        ))),
    }
}

/// Nodes have said how many migrations they know since `m0012_nodes`.
async fn has_schema(tx: &DatabaseTransaction) -> Result<bool, DbErr> {
    SchemaManager::new(tx).has_column("server_node", "schema").await
}

async fn now(tx: &DatabaseTransaction) -> Result<Time, DbErr> {
    if tx.get_database_backend() == DatabaseBackend::Sqlite {
        return Ok(Clock::System.now());
    }
    let clock = Statement::from_string(DatabaseBackend::Postgres, "SELECT clock_timestamp() AS now");
    let row = tx.query_one_raw(clock).await?;
    row.ok_or_else(|| DbErr::Custom("the database has no clock".to_owned()))?.try_get("", "now")
}

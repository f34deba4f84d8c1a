//! What a database holds, compared with what this version knows.

use migration::{CONTRACT, Migrator, MigratorTrait, SchemaManager};
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, Statement};

use super::Db;

/// The table in which the migrations that were applied stand.
const APPLIED: &str = "seaql_migrations";

/// The migrations of a database, compared with those that this version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    /// There is no table at all.
    Empty,
    /// There are tables, and they are not Ordercast's.
    Foreign,
    /// So many migrations are pending.
    Older { pending: usize },
    /// Exactly those.
    Current,
    /// A newer version has added so many, and this version can run on it all the same.
    Newer { more: usize },
    /// A newer version has removed what this one uses.
    Beyond { contract: String },
    /// It has migrations that are not known here, and lacks others: it is of another line of versions.
    Apart { unknown: String },
}

impl Schema {
    /// Compares the names of the migrations that were applied.
    #[must_use]
    pub fn of(applied: &[String]) -> Self {
        let known: Vec<_> =
            Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
        let pending = known.iter().filter(|name| !applied.contains(name)).count();
        let newer: Vec<_> = applied.iter().filter(|name| !known.contains(name)).collect();
        if let Some(contract) = newer.iter().find(|name| name.ends_with(CONTRACT)) {
            return Self::Beyond { contract: (*contract).clone() };
        }
        match (newer.first(), pending) {
            (None, 0) => Self::Current,
            (None, pending) => Self::Older { pending },
            (Some(_), 0) => Self::Newer { more: newer.len() },
            (Some(unknown), _) => Self::Apart { unknown: (*unknown).clone() },
        }
    }
}

impl Db {
    /// Looks what the database holds.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn schema(&self) -> Result<Schema, DbErr> {
        let db = self.reader();
        if !SchemaManager::new(db).has_table(APPLIED).await? {
            return Ok(if self.has_tables().await? { Schema::Foreign } else { Schema::Empty });
        }
        let all = Statement::from_string(db.get_database_backend(), format!("SELECT version FROM {APPLIED}"));
        let rows = db.query_all_raw(all).await?;
        let applied =
            rows.iter().map(|row| row.try_get("", "version")).collect::<Result<Vec<String>, _>>()?;
        let known = Migrator::migrations();
        let is_ours = known.iter().any(|migration| applied.iter().any(|name| name == migration.name()));
        if !is_ours && !applied.is_empty() {
            return Ok(Schema::Foreign);
        }
        Ok(Schema::of(&applied))
    }

    async fn has_tables(&self) -> Result<bool, DbErr> {
        let db = self.reader();
        let sql = if db.get_database_backend() == DatabaseBackend::Sqlite {
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name NOT LIKE 'sqlite_%') AS found"
        } else {
            "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm') \
             AND relnamespace = to_regnamespace(current_schema())) AS found"
        };
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
        row.map_or(Ok(false), |row| row.try_get("", "found"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_and_newer_databases_are_told_apart() {
        let known: Vec<String> = Migrator::migrations().iter().map(|one| one.name().to_owned()).collect();
        let with =
            |more: &[&str]| [known.clone(), more.iter().map(|&name| name.to_owned()).collect()].concat();
        assert_eq!(Schema::of(&known), Schema::Current);
        assert_eq!(Schema::of(&known[..known.len() - 2]), Schema::Older { pending: 2 });
        assert_eq!(Schema::of(&with(&["m9998_more", "m9999_more"])), Schema::Newer { more: 2 });
        let contract = "m9999_gone_contract".to_owned();
        assert_eq!(Schema::of(&with(&["m9998_more", &contract])), Schema::Beyond { contract });
        let unknown = "m9999_x".to_owned();
        assert_eq!(
            Schema::of(&[&known[1..], std::slice::from_ref(&unknown)].concat()),
            Schema::Apart { unknown }
        );
    }
}

//! How `PostgreSQL` is set up: its version, its rights, and what is left of its connections.

use sea_orm::DbErr;

use super::Report;
use super::database::one;
use crate::base::config::Serve;
use crate::base::db::Db;

const AREA: &str = "database";
/// `PostgreSQL` versions before this one are not tested.
const TESTED: i32 = 150_000;

/// How `PostgreSQL` is set up.
pub(super) struct Asked {
    version: String,
    number: i32,
    is_standby: bool,
    is_read_only: bool,
    encoding: String,
    synchronous: String,
    may_create: bool,
    free_connections: i64,
    wanted: i64,
}

const ASK: &str = "SELECT current_setting('server_version') AS version,
        current_setting('server_version_num')::integer AS number,
        pg_is_in_recovery() AS standby,
        current_setting('default_transaction_read_only')::boolean AS read_only,
        current_setting('server_encoding') AS encoding,
        current_setting('synchronous_commit') AS synchronous,
        COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
        (current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
            - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
               AND pid <> pg_backend_pid())) AS free";

/// Asks it.
///
/// # Errors
/// Those of the database.
pub(super) async fn ask(config: &Serve, db: &Db) -> Result<Asked, DbErr> {
    let row = one(db, ASK).await?;
    Ok(Asked {
        version: row.try_get("", "version")?,
        number: row.try_get("", "number")?,
        is_standby: row.try_get("", "standby")?,
        is_read_only: row.try_get("", "read_only")?,
        encoding: row.try_get("", "encoding")?,
        synchronous: row.try_get("", "synchronous")?,
        may_create: row.try_get("", "may_create")?,
        free_connections: row.try_get("", "free")?,
        wanted: config.cluster.database_max_connections.into(),
    })
}

impl Asked {
    pub(super) fn say(&self, report: &mut Report) {
        let Self { version, wanted, free_connections: free, .. } = self;
        if self.number < TESTED {
            report.warn(
                AREA,
                format!("PostgreSQL {version} is older than those that Ordercast is tested with"),
                "nobody knows whether everything works there",
                "move to PostgreSQL 15 or newer",
            );
        } else {
            report.ok(AREA, format!("PostgreSQL {version} answers"));
        }
        if self.is_standby || self.is_read_only {
            report.fail(
                AREA,
                if self.is_standby { "this PostgreSQL is a standby" } else { "this PostgreSQL only reads" },
                "no change can be written, so the server does not start",
                "name the primary in DATABASE_URL, or take default_transaction_read_only back",
            );
        }
        if !self.may_create {
            report.fail(
                AREA,
                "the user of DATABASE_URL may not make tables",
                "migrations fail, so the server does not start after an update",
                "make it the owner of the database, or `GRANT CREATE ON SCHEMA public TO` it",
            );
        }
        if self.encoding != "UTF8" {
            report.fail(
                AREA,
                format!("the database is encoded in {}", self.encoding),
                "names and addresses in other scripts cannot be stored",
                "create it anew with `createdb -E UTF8`",
            );
        }
        if self.synchronous == "off" {
            report.warn(
                AREA,
                "synchronous_commit is off",
                "a change that was acknowledged may be lost when PostgreSQL crashes",
                "set synchronous_commit = on",
            );
        }
        if free < wanted {
            report.warn(
                AREA,
                format!("PostgreSQL has {free} connections left, and this server may want {wanted}"),
                "changes fail when there is none",
                "raise max_connections of PostgreSQL, or lower DATABASE_MAX_CONNECTIONS",
            );
        } else {
            report.ok(
                AREA,
                format!("PostgreSQL has {free} connections left, and this server may want {wanted}"),
            );
        }
    }
}

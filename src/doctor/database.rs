//! The database: whether it answers, whether it can be written, and whether its tables are those of this version.

use std::path::Path;

use entity::server_node;
use migration::SchemaManager;
use rustix::fs::{Access, access, statvfs};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryResult, Statement};

use tokio::net::TcpStream;

use super::{Report, in_time, postgres};
use crate::base::clock::Clock;
use crate::base::config::Serve;
use crate::base::db::{Db, Schema, failure_code, postgres_address, sqlite_file};

const AREA: &str = "database";
/// Room on the disk, in bytes, below which a look is due, and below which nothing may be written soon.
const LITTLE: u64 = 1 << 30;
const HARDLY_ANY: u64 = 100 << 20;
/// A node that has said nothing for so long is dead.
const DEAD_AFTER: chrono::TimeDelta = chrono::TimeDelta::seconds(10);

/// The database, if it can be read.
pub(super) async fn check(config: &Serve, report: &mut Report) -> Option<Db> {
    // What is wrong with the URL was said among the settings.
    let url = config.database.url().ok()?;
    if !config.database.is_shared() {
        let file = sqlite_file(&url);
        if let Some(file) = &file
            && !can_be_opened(file, url.contains("mode=rwc"), report)
        {
            return None;
        }
        if file.is_none() {
            report.warn(
                AREA,
                "the database is in memory only",
                "everything is gone when the server ends",
                "name a file: DATABASE_URL=sqlite://ordercast.db?mode=rwc",
            );
            return None;
        }
    }
    if let Some((host, port)) = postgres_address(&url).filter(|_| config.database.is_shared()) {
        // A pool tries a refused connection again and again, and does not say why.
        let name = format!("PostgreSQL at {host}:{port}");
        if let Err(error) = in_time(AREA, &name, report, TcpStream::connect((&*host, port))).await? {
            report.fail(
                AREA,
                format!("{name} cannot be reached: {error}"),
                "the server does not start",
                "start PostgreSQL, correct host and port in DATABASE_URL, and look at listen_addresses there",
            );
            return None;
        }
    }
    let db = match in_time(AREA, "the database", report, Db::look(&url)).await? {
        Ok(db) => db,
        Err(error) => {
            report.fail(
                AREA,
                format!("the database cannot be opened: {error}"),
                "the server does not start",
                mend(&error),
            );
            return None;
        }
    };
    let looked = in_time(AREA, "the database", report, db.schema()).await?;
    match looked {
        Ok(schema) => say_schema(&schema, report),
        Err(error) => {
            report.fail(
                AREA,
                format!("the tables cannot be read: {error}"),
                "the server does not start",
                mend(&error),
            );
            return None;
        }
    }
    if db.is_shared() {
        let asked = in_time(AREA, "PostgreSQL", report, postgres::ask(config, &db)).await?;
        match asked {
            Ok(asked) => asked.say(report),
            Err(error) => {
                report.fail(
                    AREA,
                    format!("PostgreSQL does not say how it is set up: {error}"),
                    "the server may not start",
                    mend(&error),
                );
            }
        }
    }
    if let Ok(Some(others)) = in_time(AREA, "the database", report, others(&db)).await? {
        report.ok(AREA, others);
    }
    Some(db)
}

/// What to do about an error.
fn mend(error: &DbErr) -> &'static str {
    match failure_code(error).as_deref() {
        Some("28P01" | "28000") => "correct user and password in DATABASE_URL, or pg_hba.conf",
        Some("3D000") => "create the database (`createdb`), or correct its name in DATABASE_URL",
        Some("53300") => {
            "raise max_connections of PostgreSQL, or lower DATABASE_MAX_CONNECTIONS of the nodes"
        }
        Some("57P03") => "wait until PostgreSQL has started",
        Some("42501") => "grant the user of DATABASE_URL its rights on the tables",
        // Not a database.
        Some("26") => "correct the path in DATABASE_URL: that file is of something else",
        Some("14" | "1038") => "let the user of the server read the file and write its folder",
        _ => {
            let text = error.to_string();
            if text.contains("certificate") || text.contains("TLS") {
                "correct sslmode and sslrootcert in DATABASE_URL, or the certificate of PostgreSQL"
            } else {
                "start the database, and correct host and port in DATABASE_URL"
            }
        }
    }
}

/// Whether the file of `SQLite` is one that can be read and written. One that is not there yet is none of the reader's.
fn can_be_opened(file: &Path, may_be_made: bool, report: &mut Report) -> bool {
    let name = file.display();
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        report.fail(
            AREA,
            format!("the folder of {name} is not there, or cannot be written"),
            "SQLite keeps a log beside its file, so the server does not start",
            "make the folder and let the user of the server write there, or correct DATABASE_URL",
        );
        return false;
    }
    room(folder, report);
    if !file.exists() {
        if may_be_made {
            report.ok(AREA, format!("{name} is not there yet; the server makes it"));
        } else {
            report.fail(
                AREA,
                format!("{name} is not there"),
                "the server does not start",
                "correct the path, or add ?mode=rwc to DATABASE_URL to have it made",
            );
        }
        return false;
    }
    if access(file, Access::READ_OK | Access::WRITE_OK).is_err() {
        report.fail(
            AREA,
            format!("{name} cannot be written"),
            "the server does not start",
            "let the user of the server read and write the file",
        );
        return false;
    }
    match header(file) {
        Ok(Some(true)) => report.ok(AREA, format!("{name} can be written, and its journal is a WAL")),
        Ok(Some(false)) => report.ok(AREA, format!("{name} can be written; the server gives it a WAL")),
        Ok(None) => {
            report.fail(
                AREA,
                format!("{name} is no file of SQLite"),
                "the server does not start",
                "correct the path in DATABASE_URL: that file is of something else",
            );
            return false;
        }
        Err(error) => {
            report.fail(
                AREA,
                format!("{name} cannot be read: {error}"),
                "the server does not start",
                "look at the disk",
            );
            return false;
        }
    }
    true
}

/// Whether the journal of a database file is a WAL, by its head; `None` if it is no database. An empty file becomes one.
fn header(file: &Path) -> std::io::Result<Option<bool>> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(file)?.take(20).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(Some(false));
    }
    let is_database = head.len() == 20 && head.starts_with(b"SQLite format 3\0");
    Ok(is_database.then(|| head[18] == 2))
}

fn room(folder: &Path, report: &mut Report) {
    let Ok(disk) = statvfs(folder) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let what = format!("{} MB are free on the disk of the database", free >> 20);
    let why = "a full disk refuses every change; the server goes on by itself once there is room";
    let mend = "free some room, or move the database to a larger disk";
    if free < HARDLY_ANY {
        report.fail(AREA, what, why, mend);
    } else if free < LITTLE {
        report.warn(AREA, what, why, mend);
    } else {
        report.ok(AREA, what);
    }
}

fn say_schema(schema: &Schema, report: &mut Report) {
    match schema {
        Schema::Empty => report.ok(AREA, "the database is empty; the server makes its tables at start"),
        Schema::Current => report.ok(AREA, "every migration is applied"),
        Schema::Older { pending } => report.warn(
            AREA,
            format!("{pending} migrations are pending: the database is of an older version"),
            "the server applies them at its start; going back then takes a backup",
            "make a backup first (`ordercast backup`, `pg_dump`), then start the server or run `ordercast migrate up`",
        ),
        Schema::Newer { more } => report.warn(
            AREA,
            format!("a newer version has added {more} migrations"),
            "this version runs on them, and does not know what they are for",
            "go on to the newer version when the update is over",
        ),
        Schema::Beyond { contract } => report.fail(
            AREA,
            format!("a newer version has removed what this one uses ({contract})"),
            "the server does not start",
            "run that newer version, or restore a backup from before its update",
        ),
        Schema::Apart { unknown } => report.fail(
            AREA,
            format!("the database has a migration that this version does not know ({unknown}), and lacks others"),
            "the server does not start",
            "run the version that made it, or correct DATABASE_URL",
        ),
        Schema::Foreign => report.fail(
            AREA,
            "the database holds tables of another program, and none of Ordercast",
            "the server would put its own tables among them",
            "correct DATABASE_URL, or create a database for Ordercast alone",
        ),
    }
}

/// The only row of an answer.
pub(super) async fn one(db: &Db, sql: &str) -> Result<QueryResult, DbErr> {
    let row =
        db.reader().query_one_raw(Statement::from_string(db.reader().get_database_backend(), sql)).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the answer has no row".to_owned()))
}

/// The servers that run on this database, if it has a table of them.
async fn others(db: &Db) -> Result<Option<String>, DbErr> {
    if !SchemaManager::new(db.reader()).has_column("server_node", "schema").await? {
        return Ok(None);
    }
    let now = if db.is_shared() {
        one(db, "SELECT clock_timestamp() AS now").await?.try_get("", "now")?
    } else {
        Clock::System.now()
    };
    let nodes = server_node::Entity::find()
        .filter(server_node::Column::SeenAt.gt(now - DEAD_AFTER))
        .all(db.reader())
        .await?;
    let mut versions: Vec<_> =
        nodes.iter().map(|node| node.version.as_deref().unwrap_or("unknown")).collect();
    versions.sort_unstable();
    versions.dedup();
    Ok(Some(match nodes.len() {
        0 => "no server runs on this database".to_owned(),
        1 => format!("1 server runs on this database (version {})", versions.join(", ")),
        count => format!("{count} servers run on this database (versions {})", versions.join(", ")),
    }))
}

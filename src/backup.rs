//! Backups of `SQLite`: a copy that is made beside a running server, and its way back. `PostgreSQL` has programs of its own for
//! both.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, Statement};

use crate::base::db::{Db, Schema, beside, sqlite_file};
use crate::event::{log, restored};

/// Only the user of the server reads a backup: it holds names and addresses.
const PRIVATE: u32 = 0o600;

/// Why a backup was not made or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What was asked for cannot be. The text is one line for the operator, with what to do.
    #[error("{0}")]
    Refused(String),
    #[error("the database does not answer: {0}")]
    Database(#[from] DbErr),
    #[error("{0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The position of the newest event.
    pub position: i64,
    /// In bytes.
    pub size: u64,
    pub schema: Schema,
}

fn refused<T>(line: impl Into<String>) -> Result<T, BackupError> {
    Err(BackupError::Refused(line.into()))
}

/// Copies the database at a URL into a new file, as it is at one moment. Servers go on meanwhile.
///
/// # Errors
/// [`BackupError`]. Nothing is left behind then.
pub async fn backup(url: &str, to: &Path) -> Result<Copied, BackupError> {
    if !url.starts_with("sqlite:") {
        return refused(
            "PostgreSQL has a program for this: `pg_dump --format=custom --file=FILE \"$DATABASE_URL\"`, also while servers run",
        );
    }
    let source = match sqlite_file(url) {
        Some(file) if file.exists() => file,
        Some(file) => return refused(format!("{} is not there; correct DATABASE_URL", file.display())),
        None => return refused("a database in memory cannot be copied"),
    };
    if to.exists() {
        return refused(format!("{} is there already; name a new file", to.display()));
    }
    let db = Db::connect(url).await?;
    let schema = db.schema().await?;
    if matches!(schema, Schema::Empty | Schema::Foreign) {
        return refused(format!("{} is no database of Ordercast", source.display()));
    }
    let part = part_of(to);
    let copied = async {
        make_private(&part)?;
        let text = part
            .to_str()
            .ok_or_else(|| BackupError::Refused("the name of the file is no text".to_owned()))?;
        let copy = Statement::from_sql_and_values(DatabaseBackend::Sqlite, "VACUUM INTO $1", [text.into()]);
        db.reader().execute_raw(copy).await?;
        let position = seal(&part).await?;
        put(&part, to)?;
        Ok(position)
    };
    let copied = finish(&part, copied.await)?;
    db.close().await;
    Ok(Copied { position: copied, size: size(to), schema })
}

/// Puts a copy in the place of the database at a URL, where there must be none. The server that starts on it sees that it was
/// restored.
///
/// # Errors
/// [`BackupError`]. Nothing is changed then.
pub async fn restore(url: &str, from: &Path) -> Result<Copied, BackupError> {
    if !url.starts_with("sqlite:") {
        return refused(
            "PostgreSQL has a program for this: `pg_restore --no-owner --dbname=\"$DATABASE_URL\" FILE` into an empty database; \
             the server sees at its start that it was restored",
        );
    }
    let Some(target) = sqlite_file(url) else { return refused("a database in memory cannot be restored") };
    is_free(&target)?;
    if !from.exists() {
        return refused(format!("{} is not there", from.display()));
    }
    let source = Db::look(&format!("sqlite://{}?mode=ro", from.display())).await;
    let schema = match &source {
        Ok(db) => db.schema().await,
        Err(error) => Err(error.clone()),
    };
    let schema = match schema {
        Ok(Schema::Empty | Schema::Foreign) => {
            return refused(format!("{} is no backup of Ordercast", from.display()));
        }
        Ok(Schema::Beyond { contract }) => {
            return refused(format!(
                "{} is of a newer version, which has removed what this one uses ({contract}); restore it with that version",
                from.display()
            ));
        }
        Ok(Schema::Apart { unknown }) => {
            return refused(format!(
                "{} has a migration that this version does not know ({unknown}), and lacks others; restore it with the version \
                 that made it",
                from.display()
            ));
        }
        Ok(schema) => schema,
        Err(error) => return refused(format!("{} cannot be read: {error}", from.display())),
    };
    if let Ok(db) = &source {
        // A copy that was made by hand may lie beside its WAL, and is read with it.
        check(db, from).await?;
    }
    let part = part_of(&target);
    let copied = async {
        make_private(&part)?;
        let text = part
            .to_str()
            .ok_or_else(|| BackupError::Refused("the name of the file is no text".to_owned()))?;
        if let Ok(db) = &source {
            let copy =
                Statement::from_sql_and_values(DatabaseBackend::Sqlite, "VACUUM INTO $1", [text.into()]);
            db.reader().execute_raw(copy).await?;
        }
        let position = seal(&part).await?;
        put(&part, &target)?;
        Ok(position)
    };
    let position = finish(&part, copied.await)?;
    Ok(Copied { position, size: size(&target), schema })
}

/// Whether there is nothing in the place of a database, and no server that has it open: `SQLite` has files beside one then.
fn is_free(target: &Path) -> Result<(), BackupError> {
    let name = target.display();
    if let Some(file) =
        ["-wal", "-shm", "-journal"].map(|suffix| beside(target, suffix)).iter().find(|file| file.exists())
    {
        return refused(format!(
            "{} is there: a server has {name} open, or was killed; stop it, then move the database away with all files beside it \
             (-wal, -shm)",
            file.display()
        ));
    }
    if size(target) > 0 {
        return refused(format!("{name} is there already, and nothing is overwritten: move it away first"));
    }
    Ok(())
}

/// Checks and marks a copy. Returns the position of its newest event.
async fn seal(part: &Path) -> Result<i64, BackupError> {
    let Some(db) = Db::connect_alone(&format!("sqlite://{}?mode=rw", part.display())).await? else {
        return refused(format!("{} is open in another program", part.display()));
    };
    check(&db, part).await?;
    let marked = async {
        restored::mark(db.writer()).await?;
        log::head(db.reader()).await
    };
    let position =
        marked.await.map_err(|error| BackupError::Refused(format!("the copy cannot be marked: {error}")))?;
    db.close().await;
    Ok(position)
}

/// Reads every page of a database.
async fn check(db: &Db, file: &Path) -> Result<(), BackupError> {
    let question = Statement::from_string(DatabaseBackend::Sqlite, "PRAGMA quick_check(1)");
    let row = db.reader().query_one_raw(question).await?;
    let answer: Option<String> = row.map(|row| row.try_get_by_index(0)).transpose()?;
    match answer.as_deref() {
        Some("ok") => Ok(()),
        _ => refused(format!("{} is damaged; take another backup", file.display())),
    }
}

/// Where a copy is made until it is complete.
fn part_of(file: &Path) -> PathBuf {
    beside(file, ".part")
}

fn make_private(part: &Path) -> Result<(), BackupError> {
    let failed = |error| BackupError::File(part.to_owned(), error);
    if part.exists() {
        std::fs::remove_file(part).map_err(failed)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(part).map(drop).map_err(failed)
}

/// Gives a complete copy its name, on disk. A file that is there by now is not overwritten.
fn put(part: &Path, file: &Path) -> Result<(), BackupError> {
    let failed = |error| BackupError::File(file.to_owned(), error);
    File::open(part).and_then(|part| part.sync_all()).map_err(failed)?;
    if size(file) == 0 && file.exists() {
        std::fs::remove_file(file).map_err(failed)?;
    }
    std::fs::hard_link(part, file).map_err(failed)?;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Removes what is not needed any more, whether it went well or not.
fn finish<T>(part: &Path, done: Result<T, BackupError>) -> Result<T, BackupError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        // What is not there need not be removed.
        let _ = std::fs::remove_file(beside(part, suffix));
    }
    done
}

fn size(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |found| found.len())
}

//! Migrations, backups and restores.

use std::io::IsTerminal;
use std::process::ExitCode;

use migration::{Migrator, MigratorTrait};
use ordercast::backup::{BackupError, Copied};
use ordercast::base::db::{Db, Schema};
use ordercast::cli::{BackupArgs, Direction, MigrateArgs, RestoreArgs};

use super::{exit_bad_config, exit_failure};

pub async fn migrate(args: MigrateArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    let down = args.direction == Direction::Down;
    if down && !args.yes && !agrees() {
        return exit_bad_config("nothing was reverted: `migrate down` deletes data and needs `--yes`");
    }
    let opened = if down { Db::connect_alone(&url).await } else { Db::connect(&url).await.map(Some) };
    let db = match opened {
        Ok(Some(db)) => db,
        Ok(None) => {
            return exit_failure(
                "a server runs on this database, or another program has it open: stop it first",
            );
        }
        Err(error) => return exit_failure(&format!("the database cannot be opened: {error}")),
    };
    let applied = match args.direction {
        Direction::Up => db.migrate().await,
        Direction::Down => Migrator::down(db.writer(), Some(1)).await,
        Direction::Status => Ok(()),
    };
    let listed = match applied {
        Ok(()) => Migrator::get_migration_with_status(db.writer()).await,
        Err(error) => Err(error),
    };
    match listed {
        Ok(migrations) => {
            for migration in migrations {
                println!("{:8} {}", migration.status().to_string().to_lowercase(), migration.name());
            }
            ExitCode::SUCCESS
        }
        Err(error) => exit_failure(&format!("migration failed: {error}")),
    }
}

pub async fn backup(args: BackupArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    match ordercast::backup::backup(&url, &args.to).await {
        Ok(Copied { position, size, .. }) => {
            println!("{}: {size} bytes, everything up to position {position}", args.to.display());
            ExitCode::SUCCESS
        }
        Err(error) => exit_failed_copy(&error),
    }
}

pub async fn restore(args: RestoreArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    match ordercast::backup::restore(&url, &args.from).await {
        Ok(Copied { position, size, schema }) => {
            println!("restored: {size} bytes, everything up to position {position}");
            match schema {
                Schema::Older { pending } => {
                    println!(
                        "it is of an older version: the server applies {pending} migrations at its start"
                    );
                }
                Schema::Newer { more } => {
                    println!("it is of a newer version, with {more} migrations that this one does not need");
                }
                _ => {}
            }
            println!("start the server; all clients begin anew");
            ExitCode::SUCCESS
        }
        Err(error) => exit_failed_copy(&error),
    }
}

fn exit_failed_copy(error: &BackupError) -> ExitCode {
    match error {
        BackupError::Refused(line) => exit_bad_config(line),
        error => exit_failure(&error.to_string()),
    }
}

/// Asks on the terminal, if there is one.
fn agrees() -> bool {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return false;
    }
    eprint!(
        "This reverts the newest migration and deletes the data that only it has room for. Type yes to go on: "
    );
    let mut line = String::new();
    input.read_line(&mut line).is_ok() && line.trim() == "yes"
}

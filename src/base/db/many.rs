//! INSERT statements for many rows at a time, whose texts never change. So each connection keeps them prepared, and their rows
//! cost a tenth of what a text of its own would.

use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, Statement, Value};

use super::{MAX_INSERT_ROWS, pieces};

/// Statements that insert 1, 2, 4, … rows of `N` values.
pub struct InsertMany<const N: usize> {
    sqlite: Vec<String>,
    postgres: Vec<String>,
}

impl<const N: usize> InsertMany<N> {
    /// `head` is the text before `VALUES`, `tail` the text after the rows.
    #[must_use]
    pub fn new(head: &str, tail: &str) -> Self {
        let all = |parameter: fn(usize) -> String| {
            let row = |row: usize| {
                let values: Vec<_> = (1..=N).map(|column| parameter(row * N + column)).collect();
                format!("({})", values.join(", "))
            };
            let statement = |power: u32| {
                let rows: Vec<_> = (0..1 << power).map(row).collect();
                format!("{head} VALUES {} {tail}", rows.join(", "))
            };
            (0..=MAX_INSERT_ROWS.ilog2()).map(statement).collect()
        };
        // `SQLite` looks up names of parameters one by one, so they have none there.
        Self { sqlite: all(|_| "?".to_owned()), postgres: all(|number| format!("${number}")) }
    }

    /// Inserts rows, in pieces.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn execute(&self, db: &impl ConnectionTrait, rows: Vec<[Value; N]>) -> Result<(), DbErr> {
        let backend = db.get_database_backend();
        let texts = if backend == DatabaseBackend::Sqlite { &self.sqlite } else { &self.postgres };
        for piece in pieces(rows) {
            let text = &texts[piece.len().ilog2() as usize];
            db.execute_raw(Statement::from_sql_and_values(backend, text, piece.into_iter().flatten()))
                .await?;
        }
        Ok(())
    }
}

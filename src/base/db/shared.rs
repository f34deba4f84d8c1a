//! Values that all servers on a database share.

use entity::server_key;
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;
use sea_orm::sea_query::OnConflict;

use super::Db;
use crate::base::error::Refusal;

/// A value that all servers on this database share. The first one makes it.
///
/// # Errors
/// Those of the database.
pub async fn shared(db: &Db, name: &str, value: String) -> Result<String, Refusal> {
    let ours = server_key::ActiveModel { name: Set(name.to_owned()), value: Set(value) };
    server_key::Entity::insert(ours)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(db.writer())
        .await?;
    let key = server_key::Entity::find_by_id(name).one(db.writer()).await?;
    key.map(|key| key.value).ok_or_else(|| Refusal::internal("a key of the server cannot be read"))
}

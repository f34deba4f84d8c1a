//! What providers say of devices: that they are gone, or wrong.

use entity::device::{self as row, Column};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::Notifications;
use super::channel::Outcome;
use crate::base::clock::Time;
use crate::base::error::Refusal;

impl Notifications {
    /// Does what follows for a device from what became of a push to it. It may have registered anew meanwhile, with another
    /// address: nothing was said of that.
    pub(super) async fn judge_device(&self, device: &row::Model, outcome: &Outcome) -> Result<(), Refusal> {
        let meant = || of(&device.user_id, &device.id).and(Column::AddressHash.eq(&*device.address_hash));
        match outcome {
            Outcome::Gone { since: Some(since), .. } => {
                self.remove_device(meant().and(Column::SeenAt.lte(*since))).await
            }
            Outcome::Gone { .. } => self.remove_device(meant()).await,
            Outcome::Disabled { code } => self.disable_device(meant(), code).await,
            Outcome::Doubtful { code } => {
                let reason = Set(Some(code.clone()));
                let first = row::Entity::update_many()
                    .set(row::ActiveModel { reason, ..Default::default() })
                    .filter(meant().and(Column::Reason.is_null()))
                    .exec(self.db.writer())
                    .await?;
                // The second time in a row it gets nothing any more.
                if first.rows_affected > 0 { Ok(()) } else { self.disable_device(meant(), code).await }
            }
            Outcome::Sent { .. } if device.reason.is_some() => {
                row::Entity::update_many()
                    .set(row::ActiveModel { reason: Set(None), ..Default::default() })
                    .filter(meant().and(Column::DisabledAt.is_null()))
                    .exec(self.db.writer())
                    .await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A device to which something was sent then is gone, as its provider says later.
    pub(super) async fn device_was_gone(&self, user: &str, id: &str, sent_at: Time) -> Result<(), Refusal> {
        self.remove_device(of(user, id).and(Column::SeenAt.lte(sent_at))).await
    }

    async fn remove_device(&self, meant: Expr) -> Result<(), Refusal> {
        let gone = row::Entity::delete_many().filter(meant).exec(self.db.writer()).await?;
        for _ in 0..gone.rows_affected {
            self.metrics.device_removed("gone");
        }
        Ok(())
    }

    /// It gets nothing any more, until it registers anew.
    async fn disable_device(&self, meant: Expr, code: &str) -> Result<(), Refusal> {
        let model = row::ActiveModel {
            disabled_at: Set(Some(self.clock.now())),
            reason: Set(Some(code.chars().take(64).collect())),
            ..Default::default()
        };
        let disabled = row::Entity::update_many().set(model).filter(meant).exec(self.db.writer()).await?;
        for _ in 0..disabled.rows_affected {
            self.metrics.device_removed("disabled");
        }
        Ok(())
    }
}

fn of(user: &str, id: &str) -> Expr {
    Column::UserId.eq(user).and(Column::Id.eq(id))
}

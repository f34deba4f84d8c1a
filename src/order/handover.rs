//! What happens at the door: the customer's number, proofs, and what the customer thinks of it afterwards.

use chrono::TimeDelta;
use entity::{order_pin, order_proof, rating};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Orders, read};
use crate::base::error::Refusal;
use crate::model::order::time_of;
use crate::model::{Action, Order, OrderId, OrderStatus, Party, Principal, Proof, ProofKind, Role, UserId};

/// Wrong numbers before nobody may try again.
const TRIES: i32 = 5;
/// How long after the delivery a customer may say how it was.
const RATING: TimeDelta = TimeDelta::days(14);

/// What a rating is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RatingSubject)]
pub enum Subject {
    Order,
    Driver,
    Chef,
}

impl Subject {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Driver => "driver",
            Self::Chef => "chef",
        }
    }
}

/// What a customer thinks.
#[derive(Clone, Debug)]
pub struct Rating {
    pub subject: Subject,
    /// 1 to 5.
    pub stars: i32,
    pub comment: Option<String>,
}

impl Orders {
    /// The number of an order, for its customer.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also for an order without one; [`Refusal::Forbidden`]; those of the database.
    pub async fn pin(&self, id: &OrderId, who: &Principal) -> Result<String, Refusal> {
        let (order, party) = self.get(id, who).await?;
        if party != Party::Customer {
            return Err(Refusal::Forbidden("only the customer may see the PIN".to_owned()));
        }
        if !order.details.proof_required.contains(&ProofKind::Pin) {
            return Err(Refusal::NotFound("PIN"));
        }
        self.pins.of(id).await
    }

    /// The driver says the number that they were told. Each attempt is counted before it is looked at, so that nobody tries two
    /// at once.
    ///
    /// # Errors
    /// [`Refusal::WrongPin`], [`Refusal::PinLocked`]; as [`Orders::change`].
    pub async fn prove_pin(&self, id: &OrderId, who: &Principal, pin: &str) -> Result<Order, Refusal> {
        use order_pin::Column;
        let (order, party) = self.get(id, who).await?;
        if party != Party::Driver {
            return Err(Refusal::Forbidden("only the driver of the order may do this".to_owned()));
        }
        if !order.details.proof_required.contains(&ProofKind::Pin) {
            return Err(Refusal::invalid("kind", "is not one that this order asks for"));
        }
        let action = Action::Prove(Box::new(Proof { kind: ProofKind::Pin, picture: None }));
        if order.details.proven.contains(&ProofKind::Pin) {
            return self.change(id, who, action).await;
        }
        let db = self.db.writer();
        let first = order_pin::ActiveModel { order_id: Set(id.to_string()), tries: Set(0) };
        let nothing = OnConflict::column(Column::OrderId).do_nothing().to_owned();
        order_pin::Entity::insert(first).on_conflict(nothing).exec_without_returning(db).await?;
        let counted = order_pin::Entity::update_many()
            .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
            .filter(Column::OrderId.eq(id.as_str()))
            .filter(Column::Tries.lt(TRIES))
            .exec(db)
            .await?;
        if counted.rows_affected == 0 {
            return Err(Refusal::PinLocked);
        }
        let expected = self.pins.of(id).await?;
        let same =
            aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), pin.trim().as_bytes());
        if same.is_ok() {
            return self.change(id, who, action).await;
        }
        let tries = order_pin::Entity::find_by_id(id.as_str()).one(db).await?.map_or(TRIES, |row| row.tries);
        Err(Refusal::WrongPin { attempts_left: u32::try_from(TRIES - tries).unwrap_or(0) })
    }

    /// The proofs of an order, for who is party to it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; those of the database.
    pub async fn proofs(
        &self,
        id: &OrderId,
        who: &Principal,
    ) -> Result<(Order, Vec<order_proof::Model>), Refusal> {
        let (order, _) = self.get(id, who).await?;
        let proofs = order_proof::Entity::find()
            .filter(order_proof::Column::OrderId.eq(id.as_str()))
            .order_by_asc(order_proof::Column::Seq)
            .all(self.db.reader())
            .await?;
        Ok((order, proofs))
    }

    /// The customer says how it was. Again replaces what was said. `also` is done in the same transaction.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others; [`Refusal::NotFound`]; [`Refusal::Illegal`] before the delivery;
    /// [`Refusal::Gone`] two weeks after it; those of the database.
    pub async fn rate(
        &self,
        id: &OrderId,
        who: &Principal,
        new: &Rating,
        also: impl AsyncFnOnce(&DatabaseTransaction, &Order, &rating::Model) -> Result<(), Refusal>,
    ) -> Result<rating::Model, Refusal> {
        let (order, party) = self.get(id, who).await?;
        if party != Party::Customer || who.role != Role::Customer {
            return Err(Refusal::Forbidden("only the customer may do this".to_owned()));
        }
        if order.status != OrderStatus::Delivered {
            let detail = "an order that was not delivered cannot be rated".to_owned();
            return Err(Refusal::Illegal { detail, status: order.status, allowed: Vec::new() });
        }
        let about = about(&order, new.subject)?;
        let history = read::history(self.db.reader(), &order).await?;
        let now = self.clock.now();
        let delivered = time_of(&history, OrderStatus::Delivered).unwrap_or(order.updated_at);
        if now > delivered + RATING {
            return Err(Refusal::Gone("the time to rate this order"));
        }
        let tx = self.db.begin().await?;
        let key = (id.to_string(), new.subject.as_str().to_owned());
        let known = rating::Entity::find_by_id(key).one(&tx).await?;
        let row = rating::Model {
            order_id: id.to_string(),
            subject: new.subject.as_str().to_owned(),
            customer_id: who.id.to_string(),
            about: about.map(|user| user.to_string()),
            stars: new.stars,
            comment: new.comment.clone(),
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            updated_at: now,
        };
        write_rating(&tx, row.clone()).await?;
        also(&tx, &order, &row).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// What the customer of an order has said, for who is party to it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; those of the database.
    pub async fn ratings(&self, id: &OrderId, who: &Principal) -> Result<Vec<rating::Model>, Refusal> {
        let (order, _) = self.get(id, who).await?;
        let rows = rating::Entity::find().filter(rating::Column::OrderId.eq(order.id.as_str()));
        Ok(rows.order_by_asc(rating::Column::CreatedAt).all(self.db.reader()).await?)
    }
}

fn about(order: &Order, subject: Subject) -> Result<Option<UserId>, Refusal> {
    match subject {
        Subject::Order => Ok(None),
        Subject::Chef => Ok(Some(order.chef.id.clone())),
        Subject::Driver => match &order.driver {
            Some(driver) => Ok(Some(driver.id.clone())),
            None => Err(Refusal::invalid("subject", "is nobody: the order had no driver")),
        },
    }
}

async fn write_rating(db: &impl sea_orm::ConnectionTrait, row: rating::Model) -> Result<(), Refusal> {
    use rating::Column;
    let newest = OnConflict::columns([Column::OrderId, Column::Subject])
        .update_columns([Column::Stars, Column::Comment, Column::About, Column::UpdatedAt])
        .to_owned();
    let row = sea_orm::ActiveModelTrait::reset_all(rating::ActiveModel::from(row));
    rating::Entity::insert(row).on_conflict(newest).exec_without_returning(db).await?;
    Ok(())
}

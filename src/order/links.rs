//! Links by which strangers may follow one order.

use std::sync::Arc;

use chrono::TimeDelta;
use entity::share_link::{self as row, Column};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{Orders, read};
use crate::base::clock::Time;
use crate::base::error::Refusal;
use crate::model::order::LINK_AFTER_END;
use crate::model::status::is_final;
use crate::model::{Order, OrderId, PastStatus, Principal, Role, Share, TokenId, UserId};

/// Characters of a token: 130 bits.
const TOKEN: usize = 22;
/// Links of one order that have not ended.
const MOST: usize = 50;

/// What a link shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ShareScope)]
pub enum Scope {
    /// The status and the ETA.
    Status,
    /// Where the driver is, too.
    Location,
}

impl Scope {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Location => "location",
        }
    }
}

/// A link.
#[derive(Clone, Debug)]
pub struct Link {
    pub id: String,
    pub order: OrderId,
    pub scope: Scope,
    pub created_by: UserId,
    pub created_at: Time,
    pub expires_at: Time,
    pub revoked_at: Option<Time>,
}

impl Link {
    fn of(row: row::Model) -> Self {
        Self {
            order: OrderId::stored(&row.order_id),
            scope: if row.scope == Scope::Location.as_str() { Scope::Location } else { Scope::Status },
            created_by: UserId::stored(&row.created_by),
            id: row.id,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }

    /// Who comes with it. The sessions of a link end like those of a user.
    #[must_use]
    pub fn user(&self) -> UserId {
        UserId::stored(&format!("share:{}", self.id))
    }

    /// Who comes with it.
    #[must_use]
    pub fn principal(&self) -> Principal {
        let share = Share { order: self.order.clone(), location: self.scope == Scope::Location };
        Principal {
            id: self.user(),
            role: Role::Anonymous,
            expires_at: self.expires_at,
            issued_at: Some(self.created_at),
            token: TokenId::default(),
            contact: None,
            share: Some(Arc::new(share)),
        }
    }
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

impl Orders {
    /// Makes a link to an order, for who is party to it. Returns it with its token, which is kept nowhere.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::TooMany`]; those of the database.
    pub async fn share(
        &self,
        id: &OrderId,
        who: &Principal,
        lives: TimeDelta,
        scope: Scope,
    ) -> Result<(Link, String), Refusal> {
        let (order, _) = self.get(id, who).await?;
        let now = self.clock.now();
        let live = row::Entity::find()
            .filter(Column::OrderId.eq(order.id.as_str()))
            .filter(Column::RevokedAt.is_null())
            .filter(Column::ExpiresAt.gt(now))
            .count(self.db.reader())
            .await?;
        if live >= MOST as u64 {
            return Err(Refusal::TooMany { what: "links to this order", limit: MOST });
        }
        let token = self.clock.alphanumeric(TOKEN);
        let new = row::Model {
            id: self.clock.uuid().to_string(),
            token_hash: hash(&token),
            order_id: order.id.to_string(),
            scope: scope.as_str().to_owned(),
            created_by: who.id.to_string(),
            created_at: now,
            expires_at: now + lives,
            revoked_at: None,
        };
        let active = row::ActiveModel::from(new.clone()).reset_all();
        row::Entity::insert(active).exec_without_returning(self.db.writer()).await?;
        Ok((Link::of(new), token))
    }

    /// The links of an order that the caller may see: staff all of them, others their own. The newest first, after one of them.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; those of the database.
    pub async fn links(
        &self,
        id: &OrderId,
        who: &Principal,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Link>, Refusal> {
        let (order, _) = self.get(id, who).await?;
        // Their ids are in the order of time.
        let rows = row::Entity::find()
            .filter(Column::OrderId.eq(order.id.as_str()))
            .filter(mine(who))
            .filter(Condition::all().add_option(after.map(|after| Column::Id.lt(after))))
            .order_by_desc(Column::Id)
            .limit(limit)
            .all(self.db.reader())
            .await?;
        Ok(rows.into_iter().map(Link::of).collect())
    }

    /// Ends a link. Its sessions have to be ended, too.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; those of the database.
    pub async fn unshare(&self, id: &OrderId, link: &str, who: &Principal) -> Result<Link, Refusal> {
        let (order, _) = self.get(id, who).await?;
        let found = row::Entity::find_by_id(link)
            .filter(Column::OrderId.eq(order.id.as_str()))
            .filter(mine(who))
            .one(self.db.writer())
            .await?;
        let found = found.ok_or(Refusal::NotFound("link"))?;
        row::Entity::update_many()
            .col_expr(Column::RevokedAt, Expr::value(self.clock.now()))
            .filter(Column::Id.eq(link))
            .filter(Column::RevokedAt.is_null())
            .exec(self.db.writer())
            .await?;
        Ok(Link::of(found))
    }

    /// The link of a token, as long as it has not ended. It ends no later than an hour after its order.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a token that nobody gave out; [`Refusal::Gone`]; those of the database.
    pub async fn shared(&self, token: &str) -> Result<Link, Refusal> {
        let is_one = token.len() == TOKEN && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let found = if is_one {
            row::Entity::find().filter(Column::TokenHash.eq(hash(token))).one(self.db.reader()).await?
        } else {
            None
        };
        let mut link = Link::of(found.ok_or(Refusal::NotFound("link"))?);
        let order = read::load(self.db.reader(), &link.order).await?.ok_or(Refusal::Gone("link"))?;
        if is_final(order.status) {
            let history = read::history(self.db.reader(), &order).await?;
            link.expires_at = link.expires_at.min(ended_at(&order, &history) + LINK_AFTER_END);
        }
        if link.revoked_at.is_some() || link.expires_at <= self.clock.now() {
            return Err(Refusal::Gone("link"));
        }
        Ok(link)
    }
}

/// When a finished order got its last status. It may be paid or rated later.
fn ended_at(order: &Order, history: &[PastStatus]) -> Time {
    history.last().map_or(order.updated_at, |last| last.at)
}

fn mine(who: &Principal) -> Condition {
    let own = (!who.role.is_staff()).then(|| Column::CreatedBy.eq(who.id.as_str()));
    Condition::all().add_option(own)
}

//! The numbers that customers tell their drivers. They are made from a secret of the database and kept nowhere.

use std::sync::Arc;

use aws_lc_rs::hmac;
use tokio::sync::OnceCell;

use crate::base::clock::Clock;
use crate::base::db::{Db, shared};
use crate::base::error::Refusal;
use crate::model::OrderId;

/// Makes the numbers. Cheap to clone.
#[derive(Clone)]
pub struct Pins {
    db: Db,
    clock: Clock,
    /// Read when the first number is needed.
    secret: Arc<OnceCell<String>>,
}

impl Pins {
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, secret: Arc::default() }
    }

    /// The number of an order: four digits, always the same.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(&self, id: &OrderId) -> Result<String, Refusal> {
        let secret = self
            .secret
            .get_or_try_init(|| shared(&self.db, "handover", hex::encode(self.clock.random::<32>())))
            .await?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("pin:{id}").as_bytes());
        let number = tag.as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Ok(format!("{:04}", number % 10_000))
    }
}

//! Who asks.

use serde::{Deserialize, Serialize};

use super::UserId;
use crate::base::clock::Time;

/// What a user is here for. Other systems' words for it are understood on input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Customer,
    Chef,
    Driver,
    Admin,
    Service,
    /// No token. Let in only where an order may be read without one; no token makes anybody this.
    Anonymous,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Customer, Self::Chef, Self::Driver, Self::Admin, Self::Service, Self::Anonymous];

    /// The canonical word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Chef => "chef",
            Self::Driver => "driver",
            Self::Admin => "admin",
            Self::Service => "service",
            Self::Anonymous => "anonymous",
        }
    }

    /// The role that a word means, in any case; `None` for a word we do not know.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "customer" | "user" | "client" => Some(Self::Customer),
            "chef" | "merchant" | "vendor" | "store" | "restaurant" => Some(Self::Chef),
            "driver" | "rider" | "courier" => Some(Self::Driver),
            "admin" | "superadmin" => Some(Self::Admin),
            "service" | "system" => Some(Self::Service),
            _ => None,
        }
    }

    /// Those who run the business and see every order.
    #[must_use]
    pub const fn is_staff(self) -> bool {
        matches!(self, Self::Admin | Self::Service)
    }

    /// Those who see the driver only while the order is on its way.
    #[must_use]
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Customer | Self::Anonymous)
    }
}

/// A caller whose token was verified.
#[derive(Clone, Debug)]
pub struct Principal {
    pub id: UserId,
    pub role: Role,
    /// When the token ends.
    pub expires_at: Time,
    /// When it was made, in whole seconds as tokens mostly have it; `None` if it does not say.
    pub issued_at: Option<Time>,
}

impl Principal {
    /// Somebody without a token.
    #[must_use]
    pub fn anonymous() -> Self {
        let id = UserId::stored("anonymous");
        Self { id, role: Role::Anonymous, expires_at: Time::MAX_UTC, issued_at: None }
    }
}

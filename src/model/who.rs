//! The caller.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{OrderId, UserId};
use crate::base::clock::Time;

/// A user's role. Other systems' words for roles are accepted on input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Customer,
    Chef,
    Driver,
    Admin,
    Service,
    /// No token. Admitted only where public reads are allowed; no token has this role.
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

    /// The role for a word, in any case; `None` for an unknown word.
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

    /// Roles that run the business and see every order.
    #[must_use]
    pub const fn is_staff(self) -> bool {
        matches!(self, Self::Admin | Self::Service)
    }

    /// Roles that see the driver only while the order is on its way.
    #[must_use]
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Customer | Self::Anonymous)
    }
}

/// Names a token without telling it: half of its SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 16]);

/// A caller whose token was verified.
#[derive(Clone, Debug)]
pub struct Principal {
    pub id: UserId,
    pub role: Role,
    /// When the token ends.
    pub expires_at: Time,
    /// When the token was issued, usually in whole seconds; `None` if it does not say.
    pub issued_at: Option<Time>,
    /// The token itself. All zeros for a caller without one.
    pub token: TokenId,
    /// How a driver is called and reached, if the token says so.
    pub contact: Option<Arc<Contact>>,
    /// What a link lets a stranger see; `None` for everybody else.
    pub share: Option<Arc<Share>>,
}

/// What a link lets a stranger see: one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub order: OrderId,
    /// Whether also where the driver is.
    pub location: bool,
}

/// How somebody is called and reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    pub name: Option<String>,
    pub phone: Option<String>,
}

impl Principal {
    /// A caller without a token.
    #[must_use]
    pub fn anonymous() -> Self {
        let id = UserId::stored("anonymous");
        Self {
            id,
            role: Role::Anonymous,
            expires_at: Time::MAX_UTC,
            issued_at: None,
            token: TokenId::default(),
            contact: None,
            share: None,
        }
    }
}

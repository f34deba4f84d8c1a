//! `--demo`: demo users, a town, and orders that are cooked and delivered automatically. Loopback only.

pub mod simulate;
mod town;

use std::time::Duration;

use serde::Serialize;

use crate::app::App;
use crate::auth::mint;
use crate::base::error::Refusal;
use crate::model::{Principal, Role, TokenId, UserId};

/// Lifetime of the demo's tokens.
const TOKEN_TTL: Duration = Duration::from_secs(12 * 3_600);

/// A demo user. The passwords are not secret, because the demo listens on loopback only and has its own signing secret.
pub(crate) struct Person {
    id: &'static str,
    role: Role,
    name: &'static str,
    pub email: &'static str,
    pub password: &'static str,
}

pub(crate) const CUSTOMER: Person = Person {
    id: "demo-customer",
    role: Role::Customer,
    name: "Clara Customer",
    email: "customer@martly.dev",
    password: "customer123",
};
pub(crate) const CHEF: Person = Person {
    id: "demo-chef",
    role: Role::Chef,
    name: "Chiara Chef",
    email: "chef@martly.dev",
    password: "chef123",
};
pub(crate) const DRIVER: Person = Person {
    id: "demo-driver",
    role: Role::Driver,
    name: "Dario Driver",
    email: "driver@martly.dev",
    password: "driver123",
};
pub(crate) const ADMIN: Person = Person {
    id: "demo-admin",
    role: Role::Admin,
    name: "Ada Admin",
    email: "admin@martly.dev",
    password: "admin123",
};

impl Person {
    /// Signs this user in.
    pub fn account(&self, app: &App) -> Result<Account, Refusal> {
        let secret = app.config.jwt_secret.as_deref().ok_or(Refusal::NotFound("account"))?;
        let token = mint(secret, self.id, self.role, Some(self.name), app.clock.now(), TOKEN_TTL)
            .map_err(|error| Refusal::internal(error))?;
        Ok(Account { token, user: User { id: self.id, name: self.name, role: self.role.as_str() } })
    }

    fn principal(&self, app: &App) -> Principal {
        let expires_at = app.clock.now() + TOKEN_TTL;
        Principal {
            id: UserId::stored(self.id),
            role: self.role,
            expires_at,
            issued_at: None,
            token: TokenId::default(),
            contact: None,
            share: None,
        }
    }
}

/// A user with a token.
#[derive(Clone, Serialize)]
pub struct Account {
    pub token: String,
    pub user: User,
}

#[derive(Clone, Serialize)]
pub struct User {
    pub id: &'static str,
    pub name: &'static str,
    pub role: &'static str,
}

/// The data with which the test page shows the demo. All fields are `None` without `--demo`.
#[derive(Serialize)]
pub struct Scene {
    accounts: Option<Accounts>,
    streets: Option<Vec<Vec<[f64; 2]>>>,
    restaurant: Option<Restaurant>,
    home: Option<Home>,
    route: Option<Vec<[f64; 2]>>,
}

#[derive(Serialize)]
struct Accounts {
    customer: Account,
    chef: Account,
    driver: Account,
    admin: Account,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Restaurant {
    id: &'static str,
    name: &'static str,
    business_name: &'static str,
    address: &'static str,
    latitude: f64,
    longitude: f64,
}

#[derive(Serialize)]
struct Home {
    address: &'static str,
    latitude: f64,
    longitude: f64,
}

impl Scene {
    /// Makes the scene of this server, with new tokens.
    ///
    /// # Errors
    /// If a token cannot be signed.
    pub fn of(app: &App) -> Result<Self, Refusal> {
        if !app.config.demo {
            return Ok(Self { accounts: None, streets: None, restaurant: None, home: None, route: None });
        }
        let accounts = Accounts {
            customer: CUSTOMER.account(app)?,
            chef: CHEF.account(app)?,
            driver: DRIVER.account(app)?,
            admin: ADMIN.account(app)?,
        };
        let route = town::route();
        let ([from, to], address) = (town::ends(), town::HOME_ADDRESS);
        Ok(Self {
            accounts: Some(accounts),
            streets: Some(town::streets()),
            restaurant: Some(Restaurant {
                id: CHEF.id,
                name: CHEF.name,
                business_name: town::BUSINESS,
                address: town::BUSINESS_ADDRESS,
                latitude: from[0],
                longitude: from[1],
            }),
            home: Some(Home { address, latitude: to[0], longitude: to[1] }),
            route: Some(route),
        })
    }
}

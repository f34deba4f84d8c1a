//! `--demo`: people, a town, and orders that are cooked and driven by themselves. Loopback only.

pub mod simulate;
mod town;

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::App;
use crate::auth::{Principal, Role, mint};
use crate::error::Refusal;
use crate::id::UserId;
use crate::transport::http::Site;

/// How long the demo's tokens are good for.
const TTL: Duration = Duration::from_secs(12 * 3_600);

/// Somebody of the demo. The passwords are no secret: the demo listens on loopback only, with a secret of its own.
struct Person {
    id: &'static str,
    role: Role,
    name: &'static str,
    email: &'static str,
    password: &'static str,
}

const CUSTOMER: Person = Person {
    id: "demo-customer",
    role: Role::Customer,
    name: "Clara Customer",
    email: "customer@martly.dev",
    password: "customer123",
};
const CHEF: Person = Person {
    id: "demo-chef",
    role: Role::Chef,
    name: "Chiara Chef",
    email: "chef@martly.dev",
    password: "chef123",
};
const DRIVER: Person = Person {
    id: "demo-driver",
    role: Role::Driver,
    name: "Dario Driver",
    email: "driver@martly.dev",
    password: "driver123",
};
const ADMIN: Person = Person {
    id: "demo-admin",
    role: Role::Admin,
    name: "Ada Admin",
    email: "admin@martly.dev",
    password: "admin123",
};

impl Person {
    fn account(&self, app: &App) -> Result<Account, Refusal> {
        let secret = app.config.jwt_secret.as_deref().ok_or(Refusal::NotFound("account"))?;
        let token = mint(secret, self.id, self.role, Some(self.name), app.clock.now(), TTL)
            .map_err(|error| Refusal::Internal(Box::new(error)))?;
        Ok(Account { token, user: User { id: self.id, name: self.name, role: self.role.as_str() } })
    }

    fn principal(&self, app: &App) -> Principal {
        let expires_at = app.clock.now() + TTL;
        Principal { id: UserId::stored(self.id), role: self.role, expires_at, issued_at: None }
    }
}

/// Somebody, signed in.
#[derive(Clone, Serialize)]
pub struct Account {
    token: String,
    user: User,
}

#[derive(Clone, Serialize)]
struct User {
    id: &'static str,
    name: &'static str,
    role: &'static str,
}

/// What the test page shows in the demo; all of it empty otherwise.
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
    /// The scene of this server.
    ///
    /// # Errors
    /// When tokens cannot be made.
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

/// Signing in by e-mail and password, which only the demo knows.
pub fn routes() -> Router<Site> {
    Router::new().route("/api/v1/auth/login", post(login))
}

#[derive(Deserialize)]
struct Login {
    email: String,
    password: String,
}

async fn login(
    State(site): State<Site>,
    body: crate::transport::http::JsonBody<Login>,
) -> Result<Response, Refusal> {
    let Login { email, password } = body.value;
    let known = [&CUSTOMER, &CHEF, &DRIVER, &ADMIN].into_iter().find(|person| person.email == email);
    match known.filter(|person| person.password == password) {
        Some(person) => {
            let Account { token, user } = person.account(&site.app)?;
            let data = json!({ "accessToken": token, "user": { "email": person.email, "id": user.id, "name": user.name, "role": user.role } });
            Ok(Json(json!({ "success": true, "data": data })).into_response())
        }
        None => Err(Refusal::Unauthorized("wrong e-mail or password")),
    }
}

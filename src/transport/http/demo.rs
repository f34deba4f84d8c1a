//! `POST /api/v1/auth/login`: sign-in by e-mail and password. Only the demo has it.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::extract::Body;
use crate::base::address::ClientAddress;
use crate::base::error::Refusal;
use crate::demo::{ADMIN, Account, CHEF, CUSTOMER, DRIVER};
use crate::transport::site::Site;

/// The routes of the demo's sign-in.
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
    Extension(address): Extension<ClientAddress>,
    body: Body<Login>,
) -> Result<Response, Refusal> {
    site.connections.gate().login(address).await?;
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

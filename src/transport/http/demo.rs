//! What only the demo has: `POST /api/v1/auth/login`, sign-in by e-mail and password; and that every request must name
//! this machine as its host.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::uri::Authority;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::extract::Body;
use crate::base::address::ClientAddress;
use crate::base::error::Refusal;
use crate::demo::{ADMIN, Account, CHEF, CUSTOMER, DRIVER};
use crate::transport::problem;
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

/// Refuses requests, upgrades too, that do not name this machine as their host. The demo signs everybody in, so a page
/// of another origin must not reach it. A browser keeps such a page away by its host name, and an attacker can let that
/// name point to this machine (DNS rebinding).
pub fn for_this_machine_only(router: Router) -> Router {
    router.layer(middleware::from_fn(async |request: Request, next: Next| {
        if names_this_machine(&request) {
            return next.run(request).await;
        }
        problem::plain(
            StatusCode::MISDIRECTED_REQUEST,
            "foreign_host",
            "the demo answers only at localhost and at addresses of this machine's loopback",
        )
    }))
}

/// A request names its host in the header `Host`, or in its target as for a proxy.
fn names_this_machine(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter().peekable();
    hosts.peek().is_some()
        && hosts.all(|host| Authority::try_from(host.as_bytes()).is_ok_and(|host| is_loopback(&host)))
        && request.uri().authority().is_none_or(is_loopback)
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let name = host.strip_suffix('.').unwrap_or(&host);
    name == "localhost"
        || name.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_of_this_machine_are_loopback() {
        for here in [
            "localhost",
            "LOCALHOST:9001",
            "localhost.",
            "shop.localhost:1",
            "127.0.0.1",
            "127.8.9.10:80",
            "[::1]",
            "[::1]:9001",
            "[::ffff:127.0.0.1]:9001",
        ] {
            assert!(is_loopback(&here.parse().expect(here)), "{here}");
        }
        for elsewhere in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9001",
            "evillocalhost",
            "10.0.0.1",
            "0.0.0.0:9001",
            "[::]",
            "192.168.1.5:9001",
            "localhost@evil.example",
            "2130706433",
            "127.1",
        ] {
            assert!(!is_loopback(&elsewhere.parse().expect(elsewhere)), "{elsewhere}");
        }
    }
}

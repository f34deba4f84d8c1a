//! Orders over REST, as a back end makes and moves them.

use std::time::Duration;

use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::trouble::Trouble;
use crate::model::UserId;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where orders come from and go to. The ways of drivers are beside them, so that nobody arrives.
const CHEF: [f64; 2] = [47.14, 9.52];
const DOOR: [f64; 2] = [47.15, 9.53];

/// A caller with the token of a service.
pub(super) struct Rest {
    pub http: Client,
    pub base: String,
    pub token: String,
}

/// What is read of an order.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub seq: u32,
    pub status: String,
}

impl Rest {
    /// Asks for something that only a service or an admin may see.
    pub async fn check(&self) -> Result<(), Trouble> {
        let answer = self.send(Method::GET, "/orders?limit=1", None).await?;
        let is_list = answer.json::<Value>().await.is_ok_and(|body| body["items"].is_array());
        if is_list {
            Ok(())
        } else {
            Err(Trouble::new("unreadable", "it answers, but not as Ordercast does"))
        }
    }

    pub async fn create(&self, order: &str, customer: &UserId, chef: &UserId) -> Result<State, Trouble> {
        let [latitude, longitude] = CHEF;
        let chef = json!({"id": chef, "name": "Load test", "businessName": "Load test", "address": "Market Street 3",
            "latitude": latitude, "longitude": longitude});
        let [latitude, longitude] = DOOR;
        let body = json!({
            "id": order, "customer": {"id": customer, "name": "Load test"}, "chef": chef,
            "delivery": {"address": "Linden Lane 12", "latitude": latitude, "longitude": longitude},
            "items": [{"name": "Soup", "quantity": 2, "unitPrice": 6.5}], "total": 13, "currency": "EUR",
            // Nobody is to get a message because of it.
            "notify": false,
        });
        self.order(Method::POST, "/orders", Some(body)).await
    }

    /// Moves an order that is at `seq` to a status.
    pub async fn status(&self, order: &str, to: &str, seq: u32) -> Result<State, Trouble> {
        let body = json!({"status": to, "expectedSeq": seq});
        self.order(Method::PATCH, &format!("/orders/{order}/status"), Some(body)).await
    }

    /// Gives an order that is at `seq` to a driver.
    pub async fn assign(&self, order: &str, driver: &UserId, seq: u32) -> Result<State, Trouble> {
        let body = json!({"driver": {"id": driver, "name": "Load test"}, "expectedSeq": seq});
        self.order(Method::POST, &format!("/orders/{order}/assign"), Some(body)).await
    }

    /// `None` if there is no such order.
    pub async fn look(&self, order: &str) -> Result<Option<State>, Trouble> {
        match self.order(Method::GET, &format!("/orders/{order}"), None).await {
            Err(trouble) if trouble.code == "not_found" => Ok(None),
            other => other.map(Some),
        }
    }

    async fn order(&self, method: Method, path: &str, body: Option<Value>) -> Result<State, Trouble> {
        let answer = self.send(method, path, body).await?;
        answer.json().await.map_err(|error| Trouble::new("unreadable", error.without_url().to_string()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<reqwest::Response, Trouble> {
        let request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        let request = request.timeout(PATIENCE);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.map_err(|error| Trouble::unanswered(&error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(Trouble::answer(answer).await) }
    }
}

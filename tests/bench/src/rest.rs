//! A client of Ordercast's REST API that prepares orders, and the tokens for it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::try_join_all;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpStream;

use crate::Target;

/// A persistent connection with the token of an admin.
pub struct Rest {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Rest {
    pub async fn connect(addr: SocketAddr, secret: &str) -> Result<Self> {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        let authorization = format!("Bearer {}", token(secret, "bench-admin", "admin")?);
        Ok(Self { sender, host: addr.to_string(), authorization })
    }

    /// Sends a request and returns the body of its answer. Any status other than 2xx is an error.
    pub async fn call(&mut self, method: Method, path: &str, body: &Value) -> Result<Bytes> {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let status = head.status;
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// Creates the `index`th order, with its own customer.
    pub async fn create(&mut self, index: usize) -> Result<()> {
        let body = json!({
            "id": order_id(index),
            "customer": {"id": user_id("customer", index), "name": format!("Customer {index}")},
            "chef": {"id": user_id("chef", index % 100), "name": "Chef", "businessName": "Kitchen",
                "address": "1 Market Street", "latitude": 52.37, "longitude": 4.89},
            "delivery": {"address": "2 Canal Street", "latitude": 52.36, "longitude": 4.91},
            "items": [{"name": "Soup", "quantity": 2, "unitPrice": 6.5}],
            "total": 13.0,
            "currency": "EUR",
        });
        self.call(Method::POST, "/orders", &body).await.map(drop)
    }

    /// Creates the `index`th order and moves it to `in_transit` with the `driver`th driver.
    pub async fn create_in_transit(&mut self, index: usize, driver: usize) -> Result<()> {
        self.create(index).await?;
        self.status(index, "accepted").await?;
        let driver = json!({"id": user_id("driver", driver), "name": "Driver", "phone": "+31600000000"});
        let path = format!("/orders/{}/assign", order_id(index));
        self.call(Method::POST, &path, &json!({ "driver": driver })).await?;
        self.status(index, "in_transit").await
    }

    /// Changes the status of the `index`th order.
    pub async fn status(&mut self, index: usize, status: &str) -> Result<()> {
        let path = format!("/orders/{}/status", order_id(index));
        self.call(Method::PATCH, &path, &json!({ "status": status })).await.map(drop)
    }
}

/// The value of a counter in the server's `/metrics`; 0 for a bare relay.
pub async fn counter(target: &Target, name: &str) -> Result<f64> {
    let Some(secret) = &target.jwt_secret else { return Ok(0.0) };
    let text = Rest::connect(target.addr, secret).await?.call(Method::GET, "/metrics", &Value::Null).await?;
    let text = std::str::from_utf8(&text)?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(value.trim().parse()?)
}

/// Runs `work` for every index below `count` on 32 connections. Each connection takes every 32nd index.
pub async fn each(
    target: &Target,
    count: usize,
    work: impl AsyncFn(&mut Rest, usize) -> Result<()>,
) -> Result<()> {
    const CONNECTIONS: usize = 32;
    let work = &work;
    let secret = target.jwt_secret.as_deref().context("REST needs --jwt-secret")?;
    try_join_all((0..CONNECTIONS).map(|first| async move {
        let mut rest = Rest::connect(target.addr, secret).await?;
        for index in (first..count).step_by(CONNECTIONS) {
            work(&mut rest, index).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

pub fn order_id(index: usize) -> String {
    format!("bench-order-{index}")
}

pub fn user_id(role: &str, index: usize) -> String {
    format!("bench-{role}-{index}")
}

/// An HS256 token that expires in 2100.
pub fn token(secret: &str, sub: &str, role: &str) -> Result<String> {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(json!({"alg": "HS256", "typ": "JWT"}));
    let claims = encode(json!({"sub": sub, "role": role, "name": "Bench", "exp": 4_102_444_800_u64}));
    let signed = format!("{header}.{claims}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
}

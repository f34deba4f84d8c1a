//! Routers elsewhere, by URL: OSRM, Valhalla, Google Routes and Mapbox. One that fails is left alone for a while.

mod breaker;
mod engines;

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use tokio::sync::Semaphore;

use self::breaker::Breaker;
use super::{Mode, Route};
use crate::base::clock::instant;
use crate::base::metrics::Metrics;
use crate::model::{EtaSource, Point};

/// Requests to one router at a time. Further ones wait.
const AT_A_TIME: usize = 8;
/// The largest answer, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;
/// A server of one's own answers at once; others are far away.
const NEAR: Duration = Duration::from_millis(300);
const FAR: Duration = Duration::from_millis(1_500);

/// What speaks at a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Osrm,
    Valhalla,
    Google,
    Mapbox,
}

impl Kind {
    /// Its word in ETAs.
    #[must_use]
    pub const fn source(self) -> EtaSource {
        match self {
            Self::Osrm => EtaSource::Osrm,
            Self::Valhalla => EtaSource::Valhalla,
            Self::Google => EtaSource::Google,
            Self::Mapbox => EtaSource::Mapbox,
        }
    }

    const fn is_near(self) -> bool {
        matches!(self, Self::Osrm | Self::Valhalla)
    }
}

/// A router as the settings name it: `osrm:http://localhost:5000`. The URL may hold a key, so it is never shown.
#[derive(Clone)]
pub struct Address {
    pub kind: Kind,
    url: Url,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, url) = text.split_once(':').unwrap_or((text, ""));
        let kind = match kind.to_ascii_lowercase().as_str() {
            "osrm" => Kind::Osrm,
            "valhalla" => Kind::Valhalla,
            "google" => Kind::Google,
            "mapbox" => Kind::Mapbox,
            _ => return Err("ROUTER must begin with osrm:, valhalla:, google: or mapbox:".to_owned()),
        };
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or("ROUTER must have a URL with https:// or http:// after the kind")?;
        let has = |name: &str| url.query_pairs().any(|(known, _)| known == name);
        if kind == Kind::Google && !has("key") {
            return Err(
                "ROUTER google: needs the key in its URL: google:https://routes.googleapis.com?key=…"
                    .to_owned(),
            );
        }
        if kind == Kind::Mapbox && !has("access_token") {
            return Err(
                "ROUTER mapbox: needs the token in its URL: mapbox:https://api.mapbox.com?access_token=…"
                    .to_owned(),
            );
        }
        Ok(Self { kind, url })
    }
}

/// Why a router gave no route.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It did not answer, or with something that is no route. Never has the URL.
    #[error("it does not answer")]
    Silent,
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("its answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// It works, and knows no way.
    #[error("it knows no way")]
    NoWay,
}

/// A router elsewhere.
pub(super) struct Remote {
    address: Address,
    client: reqwest::Client,
    turns: Semaphore,
    breaker: Mutex<Breaker>,
    metrics: Metrics,
}

impl Remote {
    pub fn new(address: Address, metrics: Metrics) -> Self {
        let timeout = if address.kind.is_near() { NEAR } else { FAR };
        // Only a TLS backend that is not there makes this fail, and then nothing else would work.
        let client = reqwest::Client::builder().http1_only().timeout(timeout);
        let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap_or_default();
        let (turns, breaker) = (Semaphore::new(AT_A_TIME), Mutex::default());
        Self { address, client, turns, breaker, metrics }
    }

    pub const fn kind(&self) -> Kind {
        self.address.kind
    }

    /// The way from one place to another; `None` if the router knows none, fails, or is left alone because it failed.
    pub async fn route(&self, mode: Mode, from: Point, to: Point) -> Option<Route> {
        let source = self.kind().source().as_str();
        let _turn = self.turns.acquire().await.ok()?;
        if !self.breaker().lets_through(instant()) {
            self.metrics.routed(source, "open");
            return None;
        }
        let began = instant();
        let found = self.ask(mode, from, to).await;
        self.metrics.route_seconds.observe(began.elapsed().as_secs_f64());
        let works = matches!(found, Ok(_) | Err(Failure::NoWay));
        let is_open = {
            let mut breaker = self.breaker();
            breaker.learn(works, instant());
            breaker.is_open()
        };
        self.metrics.router_open(source, is_open);
        match found {
            Ok(route) => {
                self.metrics.routed(source, "ok");
                Some(route)
            }
            Err(error) => {
                self.metrics.routed(source, if works { "none" } else { "failed" });
                if !works {
                    tracing::warn!(router = source, %error, is_open, "no route from a router; the next one is asked");
                }
                None
            }
        }
    }

    async fn ask(&self, mode: Mode, from: Point, to: Point) -> Result<Route, Failure> {
        let request = engines::request(&self.address, &self.client, mode, from, to).ok_or(Failure::Silent)?;
        let retry = request.try_clone();
        let mut answer = match self.client.execute(request).await {
            Ok(answer) => answer,
            // A connection that was kept may have been closed by the other side.
            Err(error) if !error.is_timeout() => {
                let again = retry.ok_or(Failure::Silent)?;
                self.client.execute(again).await.map_err(|_| Failure::Silent)?
            }
            Err(_) => return Err(Failure::Silent),
        };
        let status = answer.status();
        // OSRM and Mapbox say with 400 that there is no way.
        if !(status.is_success() || status.as_u16() == 400) {
            return Err(Failure::Status(status.as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| Failure::Silent)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(Failure::Unreadable("it is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let route = engines::read(self.kind(), &body)?;
        check(&route, from, to)?;
        Ok(route)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A router may say anything. What cannot be is no route: a way shorter than the straight line, faster than anybody drives, or one
/// that is elsewhere.
fn check(route: &Route, from: Point, to: Point) -> Result<(), Failure> {
    use crate::model::plane::Plane;
    /// Metres per second, and how far the ends may be from the places.
    const FASTEST: f64 = 70.0;
    const ENDS: f64 = 5_000.0;
    let (first, last) = (route.points.first(), route.points.last());
    let (Some(first), Some(last)) = (first, last) else {
        return Err(Failure::Unreadable("it has no course"));
    };
    let is_finite = route.seconds.is_finite() && route.metres.is_finite() && route.metres >= 0.0;
    let apart = |one: Point, other: Point| Plane::around(one).away(other);
    if !is_finite || route.seconds < route.metres / FASTEST {
        return Err(Failure::Unreadable("nobody is that fast"));
    }
    if apart(first.place, from) > ENDS || apart(last.place, to) > ENDS {
        return Err(Failure::Unreadable("it is elsewhere"));
    }
    if route.metres < apart(first.place, last.place) * 0.9 {
        return Err(Failure::Unreadable("it is shorter than the straight line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_kind_a_url_and_the_key_that_it_needs() {
        for good in [
            "osrm:http://localhost:5000",
            "OSRM:https://router.example/base",
            "valhalla:http://localhost:8002",
            "google:https://routes.googleapis.com?key=k",
            "mapbox:https://api.mapbox.com?access_token=t",
        ] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "osrm",
            "osrm:",
            "osrm:localhost",
            "ftp:http://x",
            "osrm:ftp://x",
            "google:https://x",
            "mapbox:https://x",
        ] {
            let refused = bad.parse::<Address>().expect_err(bad);
            assert!(refused.starts_with("ROUTER "), "{refused}");
        }
        // Keys are in no log.
        let address: Address = "google:https://routes.googleapis.com?key=secret".parse().expect("an address");
        assert!(!format!("{address:?}").contains("secret"));
    }
}

//! Positions for maps: `GeoJSON` (RFC 7946) and GPX 1.1. The trails and the positions of an order are written here.

use std::fmt::{Display, Write as _};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::clock::{Time, rfc3339};
use crate::base::error::Refusal;

const GEO_JSON: &str = "application/geo+json";
const GPX: &str = "application/gpx+xml";
/// The namespace of what GPX itself has no words for.
const OURS: &str = "urn:ordercast:position";
/// Points in one answer for a map.
pub(super) const POINTS: u32 = 1_000;
pub(super) const POINTS_MAX: u32 = 10_000;

/// What a caller wants positions as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    GeoJson,
    Gpx,
}

impl Format {
    /// What `format` says, and else what `Accept` does.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a format that there is not.
    pub fn wanted(format: Option<&str>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match format {
            Some("geojson") => Ok(Self::GeoJson),
            Some("gpx") => Ok(Self::Gpx),
            Some(_) => Err(Refusal::invalid("format", "must be geojson or gpx")),
            None if accept.contains(GEO_JSON) => Ok(Self::GeoJson),
            None if accept.contains(GPX) => Ok(Self::Gpx),
            None => Ok(Self::Json),
        }
    }

    /// The answer with this text, which is in this format.
    pub fn answer(self, text: String) -> Response {
        let kind = match self {
            Self::Json => "application/json",
            Self::GeoJson => GEO_JSON,
            Self::Gpx => GPX,
        };
        ([(header::CONTENT_TYPE, kind)], text).into_response()
    }
}

/// How many points one answer has at most.
///
/// # Errors
/// [`Refusal::Invalid`].
pub(super) fn points(asked: Option<u32>) -> Result<u32, Refusal> {
    match asked.unwrap_or(POINTS) {
        limit @ 1..=POINTS_MAX => Ok(limit),
        _ => Err(Refusal::invalid("limit", format!("must be from 1 to {POINTS_MAX}"))),
    }
}

/// The query of the next page, after the point with this id.
pub(super) fn next_query(after: i64, limit: u64, from: Option<Time>, to: Option<Time>) -> String {
    let mut query = format!("after={after}&limit={limit}");
    for (name, time) in [("from", from), ("to", to)] {
        if let Some(time) = time {
            let _ = write!(query, "&{name}={}", rfc3339(time));
        }
    }
    query
}

/// Says in the headers that the answer depends on `Accept`, and where the next page is, if there is one.
pub(super) fn finish(mut response: Response, path: &str, next: Option<String>) -> Response {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    let next = next.and_then(|query| HeaderValue::from_str(&format!("<{path}?{query}>; rel=\"next\"")).ok());
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, next);
    }
    response
}

/// A point (one place) or a line (several) with what is known of it. Places are longitude and latitude.
pub(super) fn feature(places: &[[f64; 2]], properties: &impl Serialize) -> Value {
    // A line has two points at least.
    let geometry = match places {
        [place] => json!({"type": "Point", "coordinates": place}),
        places => json!({"type": "LineString", "coordinates": places}),
    };
    json!({"type": "Feature", "geometry": geometry, "properties": properties})
}

/// All features as `GeoJSON`.
pub(super) fn geo_json(features: &[Value], next_cursor: Option<i64>) -> String {
    let mut all = json!({"type": "FeatureCollection", "features": features});
    if let Some(next) = next_cursor {
        all["nextCursor"] = next.into();
    }
    all.to_string()
}

/// A GPX document, track by track.
pub(super) struct Gpx(String);

impl Gpx {
    /// A document without tracks. `extended`: its points have extensions.
    pub fn new(extended: bool) -> Self {
        let ours = if extended { format!(" xmlns:oc=\"{OURS}\"") } else { String::new() };
        Self(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<gpx version=\"1.1\" creator=\"ordercast\" \
             xmlns=\"http://www.topografix.com/GPX/1/1\"{ours}>\n"
        ))
    }

    /// Adds a track of this name. Ids and our own words have no character that XML escapes.
    pub fn track(&mut self, name: &str, points: impl FnOnce(&mut Self)) {
        let _ = writeln!(self.0, "<trk><name>{name}</name><trkseg>");
        points(self);
        self.0.push_str("</trkseg></trk>\n");
    }

    /// Adds a point to the track, with what is known of it beside its place and time.
    pub fn point(
        &mut self,
        [longitude, latitude]: [f64; 2],
        at: &str,
        extensions: &[(&str, Option<&dyn Display>)],
    ) {
        let _ = write!(self.0, "<trkpt lat=\"{latitude}\" lon=\"{longitude}\"><time>{at}</time>");
        if !extensions.is_empty() {
            self.0.push_str("<extensions>");
            for (name, value) in extensions {
                if let Some(value) = value {
                    let _ = write!(self.0, "<oc:{name}>{value}</oc:{name}>");
                }
            }
            self.0.push_str("</extensions>");
        }
        self.0.push_str("</trkpt>\n");
    }

    /// The text.
    pub fn end(mut self) -> String {
        self.0.push_str("</gpx>\n");
        self.0
    }
}

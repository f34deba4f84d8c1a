//! What programs on phones send that were not written for this server: positions in their own words.
//!
//! - `react-native-background-geolocation` (and `cordova-`): `{location: {coords: {…}, timestamp, battery: {level}}}`, or a list of those;
//!   with `httpRootProperty: "."` without the name. Unknown values are −1.
//! - `@mauron85/react-native-background-geolocation`: a list of `{latitude, longitude, time, accuracy, speed, bearing}`, milliseconds.
//! - `OwnTracks`: `{_type: "location", lat, lon, tst, acc, vel, cog, batt}`: seconds, km/h. Other types say nothing of a place.
//! - Traccar Client and others by the protocol of `OsmAnd`: `lat, lon, timestamp, speed, bearing, accuracy, batt`: knots; seconds,
//!   milliseconds or a text.

use serde::Deserialize;
use serde_json::Value;

use super::{Latitude, LocationReport, Longitude, OrderId};
use crate::base::clock::{Time, from_millis};
use crate::base::error::Refusal;

/// Metres per second.
const KNOT: f64 = 1_852.0 / 3_600.0;
const KILOMETRE_PER_HOUR: f64 = 1.0 / 3.6;
/// Numbers above it are milliseconds, not seconds: in seconds it is the year 5138.
const MILLISECONDS: f64 = 1e11;

/// What a phone says of itself.
#[derive(Clone, Debug)]
pub struct Heard {
    pub report: LocationReport,
    /// Percent.
    pub battery: Option<u8>,
}

fn percent(value: f64) -> Option<u8> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
    (0.0..=100.0).contains(&value).then(|| value.round() as u8)
}

/// A number, or a text that is one.
fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// A time: seconds, milliseconds or a text.
fn time(value: Option<&Value>, member: &str) -> Result<Option<Time>, Refusal> {
    let bad = || Refusal::invalid(member, "must be a time");
    let value = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    if let Some(number) = number(Some(value)) {
        let millis = if number.abs() > MILLISECONDS { number } else { number * 1_000.0 };
        if !(0.0..253_402_300_800_000.0).contains(&millis) {
            return Err(bad());
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is in the range")]
        return Ok(Some(from_millis(millis as i64)));
    }
    let text = value.as_str().ok_or_else(bad)?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // `2026-11-28 18:00:00` is in UTC, as Traccar has it.
    let text = if text.ends_with('Z') || text.get(19..).is_some_and(|zone| zone.contains(['+', '-'])) {
        text.to_owned()
    } else {
        format!("{}Z", text.replace(' ', "T"))
    };
    let at: Time = text.parse().map_err(|_| bad())?;
    Ok(Some(from_millis(at.timestamp_millis())))
}

fn degrees<T: for<'de> Deserialize<'de>>(value: Option<&Value>, member: &str) -> Result<T, Refusal> {
    let value = value.filter(|value| !value.is_null());
    let value = value.ok_or_else(|| Refusal::invalid(member, "is required"))?;
    let number = number(Some(value)).ok_or_else(|| Refusal::invalid(member, "must be a number"))?;
    serde_json::from_value(number.into()).map_err(|error| Refusal::invalid(member, error.to_string()))
}

fn known(value: Option<f64>, factor: f64, most: f64) -> Option<f64> {
    value.map(|value| value * factor).filter(|value| (0.0..=most).contains(value)).map(f64::abs)
}

/// The same parts, whatever each program calls them.
struct Parts<'a> {
    latitude: (Option<&'a Value>, &'static str),
    longitude: (Option<&'a Value>, &'static str),
    time: (Option<&'a Value>, &'static str),
    heading: Option<&'a Value>,
    speed: Option<&'a Value>,
    /// Of its unit in metres per second.
    speed_factor: f64,
    accuracy: Option<&'a Value>,
    order: Option<&'a Value>,
    mocked: bool,
    battery: Option<f64>,
}

impl Parts<'_> {
    fn heard(self) -> Result<Heard, Refusal> {
        let latitude: Latitude = degrees(self.latitude.0, self.latitude.1)?;
        let longitude: Longitude = degrees(self.longitude.0, self.longitude.1)?;
        let order_id = self.order.and_then(|id| serde_json::from_value::<OrderId>(id.clone()).ok());
        let heading = known(number(self.heading), 1.0, 360.0).map(|heading| heading % 360.0);
        let report = LocationReport {
            latitude,
            longitude,
            order_id,
            heading,
            speed: known(number(self.speed), self.speed_factor, 1_000.0),
            accuracy: number(self.accuracy).filter(|accuracy| *accuracy > 0.0),
            recorded_at: time(self.time.0, self.time.1)?,
            mocked: self.mocked,
        };
        Ok(Heard { report, battery: self.battery.and_then(percent) })
    }
}

/// The positions in a body of one of the two plug-ins for background geolocation, at most `most`.
///
/// # Errors
/// [`Refusal::Invalid`] for a body that has none; each position has its own.
pub fn background_geolocation(body: &Value, most: usize) -> Result<Vec<Result<Heard, Refusal>>, Refusal> {
    let root = body.get("location").unwrap_or(body);
    let all = match root {
        Value::Array(all) => all.as_slice(),
        Value::Object(_) => std::slice::from_ref(root),
        _ => return Err(Refusal::invalid("location", "must be an object or a list")),
    };
    if all.len() > most {
        return Err(Refusal::invalid("location", format!("must have at most {most} positions")));
    }
    Ok(all.iter().map(background_position).collect())
}

fn background_position(position: &Value) -> Result<Heard, Refusal> {
    let Some(coords) = position.get("coords") else {
        let of = |name: &str| position.get(name);
        return Parts {
            latitude: (of("latitude"), "latitude"),
            longitude: (of("longitude"), "longitude"),
            time: (of("time").or_else(|| of("timestamp")), "time"),
            heading: of("bearing").or_else(|| of("heading")),
            speed: of("speed"),
            speed_factor: 1.0,
            accuracy: of("accuracy"),
            order: of("orderId"),
            mocked: of("isFromMockProvider") == Some(&Value::Bool(true)),
            battery: None,
        }
        .heard();
    };
    let extras = position.get("extras");
    Parts {
        latitude: (coords.get("latitude"), "coords.latitude"),
        longitude: (coords.get("longitude"), "coords.longitude"),
        time: (position.get("timestamp"), "timestamp"),
        heading: coords.get("heading"),
        speed: coords.get("speed"),
        speed_factor: 1.0,
        accuracy: coords.get("accuracy"),
        order: extras.and_then(|extras| extras.get("orderId")),
        mocked: position.get("mock") == Some(&Value::Bool(true)),
        battery: number(position.pointer("/battery/level")).map(|level| level * 100.0),
    }
    .heard()
}

/// The position in a message of `OwnTracks`; `None` for a message of another type.
///
/// # Errors
/// [`Refusal::Invalid`] for a position that cannot be read, or one that is encrypted.
pub fn owntracks(body: &Value) -> Result<Option<Heard>, Refusal> {
    let of = |name: &str| body.get(name);
    match of("_type").and_then(Value::as_str) {
        Some("location") => {}
        Some("encrypted") => {
            return Err(Refusal::invalid("_type", "must not be encrypted: there is no key for it here"));
        }
        Some(_) => return Ok(None),
        None => return Err(Refusal::invalid("_type", "is required")),
    }
    let parts = Parts {
        latitude: (of("lat"), "lat"),
        longitude: (of("lon"), "lon"),
        time: (of("tst"), "tst"),
        heading: of("cog"),
        speed: of("vel"),
        speed_factor: KILOMETRE_PER_HOUR,
        accuracy: of("acc"),
        order: None,
        mocked: false,
        battery: number(of("batt")),
    };
    parts.heard().map(Some)
}

/// The position in the parameters of `OsmAnd`'s protocol.
///
/// # Errors
/// [`Refusal::Invalid`] for one that cannot be read.
pub fn osmand(parameters: &Value) -> Result<Heard, Refusal> {
    let of = |name: &str| parameters.get(name);
    let location = of("location").and_then(Value::as_str).and_then(|text| text.split_once(','));
    let pair = location.map(|(lat, lon)| (Value::from(lat), Value::from(lon)));
    let (lat, lon) = (pair.as_ref().map(|pair| &pair.0), pair.as_ref().map(|pair| &pair.1));
    let parts = Parts {
        latitude: (of("lat").or(lat), "lat"),
        longitude: (of("lon").or(lon), "lon"),
        time: (of("timestamp"), "timestamp"),
        heading: of("bearing").or_else(|| of("heading")),
        speed: of("speed"),
        speed_factor: KNOT,
        accuracy: of("accuracy"),
        order: None,
        mocked: of("mock").and_then(Value::as_str).is_some_and(|word| matches!(word, "1" | "true")),
        battery: number(of("batt")),
    };
    parts.heard()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Latitude, longitude, milliseconds, heading, speed, accuracy, battery.
    type Brief = (f64, f64, Option<i64>, Option<f64>, Option<f64>, Option<f64>, Option<u8>);

    fn brief(heard: &Heard) -> Brief {
        let report = &heard.report;
        let round = |value: Option<f64>| value.map(|value| (value * 100.0).round() / 100.0);
        (
            report.latitude.0,
            report.longitude.0,
            report.recorded_at.map(|at| at.timestamp_millis()),
            round(report.heading),
            round(report.speed),
            round(report.accuracy),
            heard.battery,
        )
    }

    const AT: i64 = 1_795_000_000_000;

    #[test]
    fn background_geolocation_single_and_array() {
        let one = json!({
            "event": "motionchange", "is_moving": true, "uuid": "5b3e", "timestamp": "2026-11-18T11:06:40.000Z",
            "coords": {"latitude": 47.14, "longitude": 9.52, "accuracy": 11.9, "speed": -1, "heading": -1, "altitude": 440},
            "activity": {"type": "in_vehicle", "confidence": 80}, "battery": {"is_charging": false, "level": 0.57},
            "extras": {"orderId": "o1"}, "mock": true,
        });
        for (body, count) in [
            (json!({"location": one}), 1),
            (json!({"location": [one, one]}), 2),
            (json!([one]), 1),
            (one.clone(), 1),
        ] {
            let all = background_geolocation(&body, 2).expect("positions");
            assert_eq!(all.len(), count);
            let heard = all[0].as_ref().expect("a position");
            assert_eq!(brief(heard), (47.14, 9.52, Some(AT), None, None, Some(11.9), Some(57)));
            assert!(heard.report.mocked);
            assert_eq!(heard.report.order_id.as_ref().map(OrderId::as_str), Some("o1"));
        }
        let old = json!([{"latitude": 47.14, "longitude": 9.52, "time": AT, "accuracy": 5, "speed": 3.5, "bearing": 360, "provider": "gps"}, {"latitude": 91}]);
        let all = background_geolocation(&old, 2).expect("positions");
        assert_eq!(
            brief(all[0].as_ref().expect("one")),
            (47.14, 9.52, Some(AT), Some(0.0), Some(3.5), Some(5.0), None)
        );
        assert!(matches!(&all[1], Err(Refusal::Invalid { member, .. }) if member == "latitude"));
        for bad in [json!([one, one, one]), json!({"location": 7}), json!("x")] {
            assert!(background_geolocation(&bad, 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn owntracks_in_its_units() {
        let body = json!({"_type": "location", "lat": 47.14, "lon": 9.52, "tst": AT / 1_000, "acc": 12, "vel": 36, "cog": 90, "batt": 80, "tid": "D1", "t": "u"});
        let heard = owntracks(&body).expect("read").expect("a position");
        assert_eq!(brief(&heard), (47.14, 9.52, Some(AT), Some(90.0), Some(10.0), Some(12.0), Some(80)));
        assert!(owntracks(&json!({"_type": "lwt", "tst": 1})).expect("read").is_none());
        for (bad, wrong) in [
            (json!({"lat": 1}), "_type"),
            (json!({"_type": "encrypted", "data": "x"}), "_type"),
            (json!({"_type": "location", "lon": 1}), "lat"),
            (json!({"_type": "location", "lat": 1, "lon": 1, "tst": "noon"}), "tst"),
        ] {
            assert!(
                matches!(owntracks(&bad), Err(Refusal::Invalid { member, .. }) if member == wrong),
                "{bad}"
            );
        }
    }

    #[test]
    fn osmand_with_its_knots_and_times() {
        for timestamp in ["1795000000", "1795000000000", "2026-11-18T11:06:40Z", "2026-11-18 11:06:40"] {
            let body = json!({"id": "7", "lat": "47.14", "lon": "9.52", "timestamp": timestamp, "speed": "19.4384449", "bearing": "45.0", "accuracy": "0.0", "batt": "88.0", "altitude": "440"});
            let heard = osmand(&body).expect(timestamp);
            assert_eq!(brief(&heard), (47.14, 9.52, Some(AT), Some(45.0), Some(10.0), None, Some(88)));
        }
        let pair = osmand(&json!({"location": "47.14,9.52", "speed": "-1"})).expect("a pair");
        assert_eq!(brief(&pair), (47.14, 9.52, None, None, None, None, None));
        for (bad, wrong) in [
            (json!({"lon": "1"}), "lat"),
            (json!({"lat": "x", "lon": "1"}), "lat"),
            (json!({"lat": "1", "lon": "181"}), "lon"),
            (json!({"lat": "1", "lon": "1", "timestamp": "1e99"}), "timestamp"),
        ] {
            assert!(matches!(osmand(&bad), Err(Refusal::Invalid { member, .. }) if member == wrong), "{bad}");
        }
    }
}

//! The fields of a frame, in bytes.

use super::{Body, Expected, Moved, Question, Remote};
use crate::base::clock::{Time, from_millis};
use crate::cluster::heads::Heads;
use crate::model::{Eta, EtaSource, Fix, OrderId, Point, Provenance, Source, UserId};

const MOVED: u8 = 1;
const EXPECTED: u8 = 2;
const LOG: u8 = 3;
const CONTROL: u8 = 4;
const BEAT: u8 = 5;
const ASK: u8 = 6;
const ANSWER: u8 = 7;
const HEADS: u8 = 8;

const HAS_HEADING: u16 = 1;
const HAS_SPEED: u16 = 1 << 1;
const HAS_ACCURACY: u16 = 1 << 2;
const HAS_ETA: u16 = 1 << 3;
const HAS_DRIVER: u16 = 1 << 4;
const HAS_CONTROL: u16 = 1 << 5;
const IS_FRESH: u16 = 1 << 6;
/// The ETA is by road. Older versions read it as one for the straight line.
const BY_ROAD: u16 = 1 << 7;
/// At the end there are the earliest and the latest time of the ETA.
const HAS_RANGE: u16 = 1 << 8;
/// After them, the metres that are left.
const HAS_METRES: u16 = 1 << 9;
/// After them, where the place of a fix comes from, as a byte. Without it the place is as it was sent.
const HAS_SOURCE: u16 = 1 << 10;
/// After that, the metres around the place.
const HAS_UNCERTAINTY: u16 = 1 << 11;
const IS_REANCHORED: u16 = 1 << 12;
const IS_STALE: u16 = 1 << 14;
/// After those, the router that knows the roads, as a byte. Without it they are those in memory.
const HAS_ROUTER: u16 = 1 << 15;
/// After the metres that are left, how many places the driver goes to before.
const HAS_STOPS: u16 = 1 << 13;

/// The routers, by their numbers.
const ROUTERS: [EtaSource; 4] = [EtaSource::Osrm, EtaSource::Valhalla, EtaSource::Google, EtaSource::Mapbox];

/// The most that a fix may be ahead of its own frame: clocks are corrected now and then.
pub(super) const AHEAD_MS: i64 = 5_000;

pub(super) const fn kind(body: &Body) -> u8 {
    match body {
        Body::Live(Remote::Moved(_)) => MOVED,
        Body::Live(Remote::Expected(_)) => EXPECTED,
        Body::Log(_) => LOG,
        Body::Control(_) => CONTROL,
        Body::Beat(_) => BEAT,
        Body::Ask { .. } => ASK,
        Body::Answer { .. } => ANSWER,
        Body::Heads(_) => HEADS,
    }
}

pub(super) struct Writer<'a> {
    pub out: &'a mut Vec<u8>,
    pub flags: u16,
}

impl Writer<'_> {
    pub fn body(&mut self, body: &Body) {
        match body {
            Body::Live(Remote::Moved(moved)) => {
                self.text(moved.order.as_str());
                self.text(moved.driver.as_str());
                let fix = &moved.fix;
                self.number(fix.place.lat());
                self.number(fix.place.lon());
                self.time(fix.recorded_at);
                self.time(fix.received_at);
                self.out.extend_from_slice(&moved.accepted.to_be_bytes());
                for (flag, value) in
                    [(HAS_HEADING, fix.heading), (HAS_SPEED, fix.speed), (HAS_ACCURACY, fix.accuracy)]
                {
                    if let Some(value) = value {
                        self.flags |= flag;
                        self.number(value);
                    }
                }
                if let Some(eta) = &moved.eta {
                    self.flags |= HAS_ETA;
                    self.eta(eta);
                    self.range(eta);
                }
                self.provenance(&moved.provenance);
            }
            Body::Live(Remote::Expected(expected)) => {
                self.text(expected.order.as_str());
                self.text(expected.customer.as_str());
                self.eta(&expected.eta);
                if let Some(driver) = &expected.driver {
                    self.flags |= HAS_DRIVER;
                    self.text(driver.as_str());
                }
                self.range(&expected.eta);
            }
            Body::Log(position) | Body::Control(position) => self.bytes(&position.to_be_bytes()),
            Body::Beat(at) => self.bytes(&at.to_be_bytes()),
            Body::Ask { id, question } => {
                self.bytes(&id.to_be_bytes());
                let (kind, about) = match question {
                    Question::Presence(user) => (1, user.as_str()),
                    Question::Revoked(user) => (2, user.as_str()),
                    Question::Reports(driver) => (3, driver.as_str()),
                    Question::Watching(user) => (4, user.as_str()),
                };
                self.bytes(&[kind]);
                self.text(about);
            }
            Body::Answer { id, count } => {
                self.bytes(&id.to_be_bytes());
                self.bytes(&count.to_be_bytes());
            }
            Body::Heads(heads) => {
                self.time(heads.at);
                self.bytes(&heads.events.to_be_bytes());
                if let Some(control) = heads.control {
                    self.flags |= HAS_CONTROL;
                    self.bytes(&control.to_be_bytes());
                }
                if heads.is_fresh {
                    self.flags |= IS_FRESH;
                }
            }
        }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn number(&mut self, value: f64) {
        self.bytes(&value.to_be_bytes());
    }

    /// The length in two bytes, then the text. Ids have 512 bytes at most.
    fn text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap_or(0);
        self.bytes(&length.to_be_bytes());
        self.bytes(&text.as_bytes()[..usize::from(length)]);
    }

    pub fn time(&mut self, at: Time) {
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        self.bytes(&millis.to_be_bytes()[2..]);
    }

    fn range(&mut self, eta: &Eta) {
        self.flags |= HAS_RANGE;
        self.time(eta.low);
        self.time(eta.high);
        if let Some(metres) = eta.metres {
            self.flags |= HAS_METRES;
            self.bytes(&metres.to_be_bytes());
        }
        if let Some(stops) = eta.stops_before {
            self.flags |= HAS_STOPS;
            self.bytes(&stops.to_be_bytes());
        }
        if eta.stale {
            self.flags |= IS_STALE;
        }
        if let Some(router) = ROUTERS.iter().position(|router| *router == eta.source) {
            self.flags |= HAS_ROUTER;
            self.bytes(&[u8::try_from(router).unwrap_or_default()]);
        }
    }

    fn provenance(&mut self, provenance: &Provenance) {
        let source = u8::try_from(provenance.source.stored()).unwrap_or_default();
        if provenance.source == Source::Raw {
            return;
        }
        self.flags |= HAS_SOURCE;
        self.bytes(&[source]);
        if let Some(metres) = provenance.uncertainty {
            self.flags |= HAS_UNCERTAINTY;
            self.number(metres);
        }
        if provenance.reanchored {
            self.flags |= IS_REANCHORED;
        }
    }

    fn eta(&mut self, eta: &Eta) {
        self.time(eta.at);
        self.bytes(&u32::try_from(eta.minutes).unwrap_or(u32::MAX).to_be_bytes());
        if !matches!(eta.source, EtaSource::Geodesic | EtaSource::Override) {
            self.flags |= BY_ROAD;
        }
        self.bytes(&[match eta.source {
            EtaSource::Override => 2,
            _ => 1,
        }]);
    }
}

pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub flags: u16,
}

#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Known {
    Yes(Body),
    /// A newer version wrote it.
    No,
    Broken,
}

impl Reader<'_> {
    pub fn body(&mut self, kind: u8, node: u16, sent: Time) -> Known {
        let body = match kind {
            MOVED => self.moved(node, sent).map(|moved| Body::Live(Remote::Moved(moved))),
            EXPECTED => self.expected(sent).map(|expected| Body::Live(Remote::Expected(expected))),
            LOG => self.take().map(i64::from_be_bytes).map(Body::Log),
            CONTROL => self.take().map(i64::from_be_bytes).map(Body::Control),
            BEAT => self.take().map(u64::from_be_bytes).map(Body::Beat),
            ASK => return self.ask(),
            ANSWER => self.answer(),
            HEADS => self.heads().map(Body::Heads),
            _ => return Known::No,
        };
        body.map_or(Known::Broken, Known::Yes)
    }

    fn moved(&mut self, node: u16, sent: Time) -> Option<Moved> {
        let order = OrderId::parse(self.text()?).ok()?;
        let driver = UserId::parse(self.text()?).ok()?;
        let (latitude, longitude) = (self.number()?, self.number()?);
        if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
            return None;
        }
        let (recorded_at, received_at) = (self.time()?, self.time()?);
        let accepted = u32::from_be_bytes(self.take()?);
        // A fix from the future would hide all others until then.
        if recorded_at > received_at || (received_at - sent).num_milliseconds() > AHEAD_MS {
            return None;
        }
        let heading = self.optional(HAS_HEADING, Self::number)?;
        let speed = self.optional(HAS_SPEED, Self::number)?;
        let accuracy = self.optional(HAS_ACCURACY, Self::number)?;
        let mut eta = self.optional(HAS_ETA, |reader| reader.eta(sent))?;
        self.range(eta.as_mut())?;
        let provenance = self.provenance(accuracy)?;
        let place = Point::stored(latitude, longitude);
        Some(Moved {
            order,
            driver,
            fix: Fix { place, heading, speed, accuracy, recorded_at, received_at, mocked: false },
            provenance,
            eta,
            accepted,
            node,
        })
    }

    fn provenance(&mut self, accuracy: Option<f64>) -> Option<Provenance> {
        let source = self.optional(HAS_SOURCE, Self::take::<1>)?;
        let Some([source]) = source else { return Some(Provenance::raw(accuracy)) };
        // A newer version may know more sources.
        let source = Source::of_stored(source.into()).unwrap_or(Source::Filtered);
        let uncertainty = self.optional(HAS_UNCERTAINTY, Self::number)?;
        Some(Provenance { source, uncertainty, reanchored: self.flags & IS_REANCHORED != 0 })
    }

    fn expected(&mut self, sent: Time) -> Option<Expected> {
        let order = OrderId::parse(self.text()?).ok()?;
        let customer = UserId::parse(self.text()?).ok()?;
        let mut eta = self.eta(sent)?;
        let driver = self.optional(HAS_DRIVER, |reader| UserId::parse(reader.text()?).ok())?;
        self.range(Some(&mut eta))?;
        Some(Expected { order, customer, driver, eta })
    }

    fn ask(&mut self) -> Known {
        let (Some(id), Some([kind]), Some(about)) = (self.take(), self.take::<1>(), self.text()) else {
            return Known::Broken;
        };
        let question = match kind {
            1 => UserId::parse(about).ok().map(Question::Presence),
            2 => UserId::parse(about).ok().map(Question::Revoked),
            3 => UserId::parse(about).ok().map(Question::Reports),
            4 => UserId::parse(about).ok().map(Question::Watching),
            _ => return Known::No,
        };
        let id = u64::from_be_bytes(id);
        question.map_or(Known::Broken, |question| Known::Yes(Body::Ask { id, question }))
    }

    fn answer(&mut self) -> Option<Body> {
        let (id, count) = (self.take()?, self.take()?);
        Some(Body::Answer { id: u64::from_be_bytes(id), count: u64::from_be_bytes(count) })
    }

    fn heads(&mut self) -> Option<Heads> {
        let at = self.time()?;
        let events = i64::from_be_bytes(self.take()?);
        let control = self.optional(HAS_CONTROL, |reader| reader.take().map(i64::from_be_bytes))?;
        Some(Heads { at, events, control, is_fresh: self.flags & IS_FRESH != 0 })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<f64> {
        self.take().map(f64::from_be_bytes).filter(|value| value.is_finite())
    }

    fn text(&mut self) -> Option<&str> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        std::str::from_utf8(text).ok()
    }

    pub fn time(&mut self) -> Option<Time> {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.take::<6>()?);
        i64::try_from(u64::from_be_bytes(millis)).ok().map(from_millis)
    }

    fn range(&mut self, eta: Option<&mut Eta>) -> Option<()> {
        let range = self.optional(HAS_RANGE, |reader| Some((reader.time()?, reader.time()?)))?;
        let metres = self.optional(HAS_METRES, |reader| reader.take().map(u32::from_be_bytes))?;
        let stops = self.optional(HAS_STOPS, |reader| reader.take().map(u16::from_be_bytes))?;
        let router = self.optional(HAS_ROUTER, Self::take::<1>)?;
        if let (Some(eta), Some((low, high))) = (eta, range) {
            (eta.low, eta.high, eta.metres, eta.stops_before) = (low, high, metres, stops);
            eta.stale = self.flags & IS_STALE != 0;
            // A newer version may know more of them.
            let router = router.and_then(|[router]| ROUTERS.get(usize::from(router)));
            eta.source = router.copied().unwrap_or(eta.source);
        }
        Some(())
    }

    fn eta(&mut self, sent: Time) -> Option<Eta> {
        let at = self.time()?;
        let minutes = i64::from(u32::from_be_bytes(self.take()?)).max(1);
        let source = match self.take()? {
            [1] if self.flags & BY_ROAD != 0 => EtaSource::Network,
            [1] => EtaSource::Geodesic,
            [2] => EtaSource::Override,
            _ => return None,
        };
        Some(Eta { minutes, ..Eta::new(at, source, sent) })
    }

    /// A field that is there if its flag is set. `None` if it should be and is not.
    #[expect(clippy::option_option, reason = "broken, absent and present are three things")]
    fn optional<T>(&mut self, flag: u16, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flags & flag == 0 { Some(None) } else { read(self).map(Some) }
    }
}

//! Orders, people, places, events, and the rules between them. Pure: no I/O, no async, no framework.

pub mod access;
pub mod action;
pub mod area;
pub mod command;
pub mod decimal;
pub mod details;
pub mod erase;
pub mod eta;
pub mod event;
pub mod fix;
pub mod fleet;
pub mod id;
pub mod new_order;
pub mod order;
pub mod overview;
pub mod phone;
pub mod phone_clock;
pub mod phones;
pub mod plane;
pub mod proof;
pub mod status;
pub mod told;
pub mod tracking;
pub mod value;
pub mod who;

pub use entity::{OrderStatus, PaymentStatus};

pub use access::{Party, Permit, Right};
pub use action::{Action, Amendment, Asked};
pub use area::Area;
pub use command::{Command, NotificationState, Secret};
pub use decimal::{Amount, Quantity};
pub use details::{Details, FailureReason, Fulfilment, ProofKind, ReasonWord, Window, WindowIn, WindowText};
pub use eta::{Basis, Eta, EtaSource, Forecast, Spread, straight};
pub use event::{About, Announcement, Audience, EtaChange, EventKind, LiveEvent, Location, OrderEvent};
pub use fix::{Fix, LocationReport, Provenance, Source, Verdict};
pub use fleet::{Bounds, Spot};
pub use id::{OrderId, UserId};
pub use order::{Chef, Customer, Delivery, Driver, Item, Order, PastStatus, StopKind};
pub use overview::{Overview, PastMilestone};
pub use phone::Phone;
pub use proof::{Picture, Proof};
pub use told::Risk;
pub use tracking::{TrackingId, TrackingSession};
pub use value::{Code, Latitude, Line, Longitude, Paragraph, Point, Text, WholeNumber};
pub use who::{Contact, Principal, Role, Share, TokenId};

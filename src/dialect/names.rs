//! The names of all messages, and nowhere else: what the server writes and what it reads at each door. The `AsyncAPI` document is
//! made from these lists, so a message cannot be sent or understood without being in it.

use crate::model::told::What;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The one of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

names! {
    /// Events that the server sends in `/realtime`, besides announcements, whose senders name them.
    RealtimeEvent {
        Connected = "connected",
        OrderNew = "order:new",
        OrderAvailable = "order:available",
        OrderWithdrawn = "order:withdrawn",
        StatusUpdate = "order:status_update",
        EtaUpdate = "order:eta_update",
        Signal = "order:signal",
        Milestone = "order:milestone",
        Risk = "order:risk",
        Receipt = "order:receipt",
        PlanUpdate = "driver:plan_update",
        NewAssignment = "driver:new_assignment",
        Unassigned = "driver:unassigned",
        LocationUpdate = "driver:location_update",
        LocationAcknowledged = "driver:location_acknowledged",
        FleetPositions = "fleet:positions",
        ReplayEnd = "replay:end",
        TokenExpiring = "token:expiring",
        TokenExpired = "token:expired",
        Resync = "resync",
        Error = "error",
    }
}

impl From<What> for RealtimeEvent {
    fn from(what: What) -> Self {
        match what {
            What::Signal => Self::Signal,
            What::Milestone(..) => Self::Milestone,
            What::Risk => Self::Risk,
            What::Plan => Self::PlanUpdate,
            What::Receipt => Self::Receipt,
        }
    }
}

names! {
    /// Requests of clients in `/realtime`. Metrics name the requests of all doors so.
    RealtimeRequest {
        Location = "driver:location",
        Subscribe = "subscribe:order",
        Unsubscribe = "unsubscribe:order",
        LocationBatch = "driver:location_batch",
        StatusUpdate = "order:status_update",
        Tracking = "order:tracking",
        TokenRefresh = "token:refresh",
        Ping = "ping:latency",
        SubscribeFleet = "subscribe:fleet",
        UnsubscribeFleet = "unsubscribe:fleet",
        ReplayOrder = "replay:order",
        ReplayStop = "replay:stop",
        AppState = "app:state",
        OrderSeen = "order:seen",
        NotificationAck = "notification:ack",
    }
}

/// What metrics call a request of any other name.
pub const UNKNOWN: &str = "unknown";
/// What metrics call a request whose name cannot be read.
pub const UNREADABLE: &str = "unreadable";

/// The names of requests in metrics.
#[must_use]
pub fn of_requests() -> Vec<&'static str> {
    let known = RealtimeRequest::ALL.iter().map(|request| request.as_str());
    known.chain([UNKNOWN, UNREADABLE]).collect()
}

names! {
    /// Events of the Socket.IO default namespace.
    NoticeEvent {
        OrderStatusUpdate = "orderStatusUpdate",
        TrackingUpdate = "trackingUpdate",
    }
}

names! {
    /// Messages of the server at every raw WebSocket.
    RawMessage {
        Pong = "pong",
        Error = "error",
    }
}

names! {
    /// Requests at every raw WebSocket.
    RawRequest {
        Ping = "ping",
    }
}

names! {
    /// Messages of the server at `/orders/track`, besides [`RawMessage`].
    OrdersTrackMessage {
        Connected = "connected",
        Subscribed = "subscribed",
        Unsubscribed = "unsubscribed",
        OrderUpdate = "order_update",
        DriverLocation = "driver_location",
    }
}

names! {
    /// Requests at `/orders/track` and at `/ws`, besides [`RawRequest`].
    FollowRequest {
        Subscribe = "subscribe",
        Unsubscribe = "unsubscribe",
    }
}

names! {
    /// Messages of the server at `/ws`, besides [`RawMessage`].
    WsMessage {
        OrderUpdated = "order:updated",
        OrdersChanged = "orders:changed",
    }
}

names! {
    /// Messages of the server at `/ws/tracking/{id}`, besides [`RawMessage`].
    TrackingMessage {
        InitialState = "initial_state",
        LocationUpdate = "location_update",
        StatusChange = "status_change",
    }
}

names! {
    /// Requests at `/ws/tracking/{id}`, besides [`RawRequest`].
    TrackingRequest {
        LocationUpdate = "location_update",
    }
}

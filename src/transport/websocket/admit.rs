//! Decides which clients come in on a raw WebSocket.

use std::sync::Arc;

use bytes::Bytes;

use crate::app::App;
use crate::base::error::Refusal;
use crate::dialect::Dialect;
use crate::dialect::close::{
    Close, CloseReason, INVALID_TOKEN, SESSION_EXPIRED, TOKEN_REQUIRED, TRACKING_NOT_FOUND,
};
use crate::dialect::message::Message;
use crate::dialect::place::Place;
use crate::model::Principal;
use crate::session::beginning::Beginning;
use crate::transport::conn::websocket;

/// A client that comes in.
pub(super) struct Admitted {
    pub(super) principal: Principal,
    pub(super) beginning: Beginning,
}

/// A client that is refused: its last message, and the close frame.
pub(super) struct Refused {
    pub(super) message: Option<Message>,
    pub(super) close: Bytes,
}

impl Refused {
    fn because((code, reason): Close) -> Self {
        Self { message: None, close: websocket::close(code, reason) }
    }
}

/// Lets a client in or refuses it.
///
/// # Errors
/// A fault of ours. It must not look like a refusal, because clients do not come back after one.
pub(super) async fn admit(
    app: &App,
    dialect: Dialect,
    tracking: Option<&str>,
    token: Option<String>,
) -> Result<Result<Admitted, Refused>, Refusal> {
    let open = match dialect {
        Dialect::Tracking => true,
        Dialect::OrdersTrack => app.config.legacy_open,
        Dialect::Ws | Dialect::Realtime | Dialect::Notices | Dialect::Shared => false,
    };
    let principal = match token {
        None if open => Principal::anonymous(),
        None => {
            app.metrics.rejected("unauthorized");
            return Ok(Err(Refused::because(TOKEN_REQUIRED)));
        }
        Some(token) => match app.auth.verify(&token).await {
            Ok(principal) => principal,
            Err(refusal @ (Refusal::Unavailable | Refusal::Conflict(_) | Refusal::Internal(_))) => {
                return Err(refusal);
            }
            Err(refusal) => {
                app.metrics.rejected(refusal.code());
                return Ok(Err(Refused::because(INVALID_TOKEN)));
            }
        },
    };
    let watched = match tracking {
        None => None,
        Some(id) => match app.tracking.find(id).await {
            Ok((session, order)) => {
                let ends_at = app.tracking.end(&session, &order).await?;
                Some((Arc::new(session), ends_at))
            }
            Err(Refusal::NotFound(_)) => return Ok(Err(Refused::because(TRACKING_NOT_FOUND))),
            Err(Refusal::Gone(_)) => {
                let message = dialect.last_words(CloseReason::Expired);
                return Ok(Err(Refused { message, ..Refused::because(SESSION_EXPIRED) }));
            }
            Err(refusal) => return Err(refusal),
        },
    };
    app.catch_up().await;
    let beginning = Beginning::at(Place::after(app.events.position()), watched);
    Ok(Ok(Admitted { principal, beginning }))
}

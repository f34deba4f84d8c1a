//! What is done from time to time as long as the server runs.

use std::time::Duration;

use crate::app::App;
use crate::recovery;
use crate::session::Sessions;
use crate::transport::socketio::polling::PollingClients;

/// How often what is no longer needed is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How often we look for tokens that another process revoked: their sockets must end here within a second.
const REVOCATIONS: Duration = Duration::from_millis(500);

/// Ends the sessions of users whose tokens another process has revoked.
pub(super) async fn hear_revocations(sessions: Sessions) {
    let mut tick = tokio::time::interval(REVOCATIONS);
    loop {
        tick.tick().await;
        match sessions.app().poll_revocations().await {
            Ok(users) => {
                for user in users {
                    let sockets = sessions.revoke(&user);
                    tracing::info!(%user, sockets, "tokens were revoked by another process");
                }
            }
            Err(error) => tracing::debug!(%error, "revocations cannot be read; trying again"),
        }
    }
}

pub(super) async fn refresh_keys(app: App) {
    app.auth.refresh_forever().await;
}

/// Forgets what is no longer needed.
pub(super) async fn keep_house(app: App, clients: PollingClients) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        tick.tick().await;
        app.drivers.sweep();
        clients.sweep();
        if let Err(error) = recovery::sweep(&app.recovery).await {
            tracing::warn!(%error, "old sessions could not be removed");
        }
        if let Err(error) = app.orders.sweep().await {
            tracing::warn!(%error, "old idempotency keys could not be removed");
        }
    }
}

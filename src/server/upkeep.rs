//! Periodic background tasks of a running server.

use std::time::Duration;

use crate::app::App;
use crate::recovery;
use crate::session::Sessions;
use crate::transport::socketio::polling::PollingClients;

/// How often expired data is deleted.
const DELETE_INTERVAL: Duration = Duration::from_secs(60);
/// How often revocations of other processes are read. The sockets of a revoked token must end within a second.
const REVOCATION_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Ends the sessions of users whose tokens another process has revoked.
pub(super) async fn apply_revocations(sessions: Sessions) {
    let mut tick = tokio::time::interval(REVOCATION_POLL_INTERVAL);
    loop {
        tick.tick().await;
        match sessions.app().poll_revocations().await {
            Ok(users) => {
                for user in users {
                    let sockets = sessions.revoke(&user);
                    tracing::info!(%user, sockets, "tokens were revoked by another process");
                }
            }
            Err(error) => tracing::debug!(%error, "revocations could not be read; trying again"),
        }
    }
}

pub(super) async fn refresh_keys(app: App) {
    app.auth.refresh_forever().await;
}

/// Removes idle drivers and polling clients from memory, and deletes expired sessions and idempotency keys.
pub(super) async fn delete_expired(app: App, clients: PollingClients) {
    let mut tick = tokio::time::interval(DELETE_INTERVAL);
    loop {
        tick.tick().await;
        app.drivers.sweep();
        clients.sweep();
        if let Err(error) = recovery::sweep(&app.recovery).await {
            tracing::warn!(%error, "old sessions could not be deleted");
        }
        if let Err(error) = app.orders.sweep().await {
            tracing::warn!(%error, "old idempotency keys could not be deleted");
        }
    }
}

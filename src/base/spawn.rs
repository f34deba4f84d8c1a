//! Work that outlives its caller.

use std::future::Future;

use tracing::Instrument;

use super::error::Refusal;

/// Runs work to its end even when the caller goes away: axum drops a handler whose client hangs up, and a commit
/// must not lose what follows it.
///
/// # Errors
/// Those of the work; [`Refusal::Internal`] when it panicked.
pub async fn uninterrupted<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(answer) => answer,
        Err(error) => Err(Refusal::internal(error)),
    }
}

//! Tasks that continue when their caller is dropped.

use std::future::Future;

use tracing::Instrument;

use super::error::Refusal;

/// Runs `work` to its end even if the caller is dropped. axum drops a handler when its client hangs up, but the steps
/// after a commit must still run.
///
/// # Errors
/// Those of `work`; [`Refusal::Internal`] if it panicked.
pub async fn uninterrupted<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(answer) => answer,
        Err(error) => Err(Refusal::internal(error)),
    }
}

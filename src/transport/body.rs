//! Reads the body of a request: bounded in size, and in time.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body::Body as _;
use tokio::time::Instant;

use super::problem;
use crate::base::clock::instant;

/// The time in which a body has to begin to arrive, whatever its size.
const GRACE: Duration = Duration::from_secs(10);
/// The slowest that a body may arrive, in bytes per second, after that. The slowest mobile networks are faster.
const MIN_RATE: f64 = 1_024.0;

/// The body of a request.
///
/// # Errors
/// 413 if it has more than `limit` bytes, 408 if it comes too slowly, 400 if it is cut off.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, Response> {
    let began = instant();
    let too_large = || {
        let detail = format!("the body has more than {limit} bytes");
        ends(problem::plain(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &detail))
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let read = first.len() + all.len();
        let frame = tokio::time::timeout_at(deadline(began, read), next(&mut body)).await;
        match frame {
            Err(_) => {
                let detail = "the body arrives too slowly";
                return Err(ends(problem::plain(StatusCode::REQUEST_TIMEOUT, "timeout", detail)));
            }
            Ok(Some(Err(_))) => {
                return Err(problem::plain(StatusCode::BAD_REQUEST, "malformed", "the body cannot be read"));
            }
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if read + data.len() > limit {
                    return Err(too_large());
                }
                if read == 0 {
                    first = data;
                } else {
                    // Copied, because a piece of a few bytes keeps the whole buffer that it was read into.
                    all.extend_from_slice(&std::mem::take(&mut first));
                    all.extend_from_slice(&data);
                }
            }
            Ok(None) => return Ok(if all.is_empty() { first } else { all.freeze() }),
        }
    }
}

/// When a body has to go on of which `read` bytes have arrived.
pub(super) fn deadline(began: Instant, read: usize) -> Instant {
    #[expect(clippy::cast_precision_loss, reason = "bodies are small")]
    let seconds = read as f64 / MIN_RATE;
    began + GRACE + Duration::from_secs_f64(seconds)
}

async fn next(body: &mut Body) -> Option<Result<http_body::Frame<Bytes>, axum::Error>> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await
}

/// An answer that ends the connection: the rest of the body is not waited for.
pub(super) fn ends(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn body(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(*piece))).collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        for (pieces, limit, read) in [
            (&[][..], 0, Ok("")),
            (&["abc"], 3, Ok("abc")),
            (&["a", "bc", "d"], 4, Ok("abcd")),
            (&["abc"], 2, Err(413)),
            (&["a", "b", "c"], 2, Err(413)),
        ] {
            let got = super::read(body(pieces), limit).await;
            let got = got.as_deref().map_err(|refused| refused.status().as_u16());
            assert_eq!(got, read.map(str::as_bytes), "{pieces:?}");
        }
    }

    #[test]
    fn a_body_has_to_go_on() {
        let began = instant();
        for (read, seconds) in [(0, 10), (1_024, 11), (65_536, 74)] {
            assert_eq!(deadline(began, read) - began, Duration::from_secs(seconds), "{read}");
        }
    }
}

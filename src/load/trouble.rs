//! What goes wrong at a server, in the words that it is counted by.

use std::time::Duration;

use reqwest::Response;
use serde::Deserialize;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Trouble {
    /// The server's own word for it, such as `rate_limited`; `http_502` if it has none; or one of ours: `unreachable`, `timeout`,
    /// `connection_lost`, `unreadable`.
    pub code: String,
    pub text: String,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
    /// Whether nothing has changed at the server. Without it, what was asked for may have been done.
    pub is_refusal: bool,
}

impl Trouble {
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: word(code), text: text.into(), retry_after: None, is_refusal: false }
    }

    /// Something was refused with these words, which begin with a code.
    pub fn refused(message: &str) -> Self {
        let code = message.split(':').next().unwrap_or_default();
        Self { is_refusal: true, ..Self::new(code, message) }
    }

    /// The request has not been answered.
    pub fn unanswered(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::timeout();
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self { is_refusal: error.is_connect(), ..Self::new("unreachable", cause.to_string()) }
    }

    pub fn timeout() -> Self {
        Self::new("timeout", "no answer in time")
    }

    /// An answer that is no success.
    pub async fn answer(answer: Response) -> Self {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            #[serde(default)]
            detail: String,
        }
        let status = answer.status().as_u16();
        let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let problem =
            answer.bytes().await.ok().and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
        let mut trouble = match problem {
            Some(problem) => Self::new(&problem.code, problem.detail),
            None => Self::new(&format!("http_{status}"), format!("HTTP status {status}")),
        };
        trouble.retry_after = seconds.map(Duration::from_secs);
        trouble.is_refusal = (400..500).contains(&status);
        trouble
    }
}

/// A code as a server may have it: a short word.
fn word(code: &str) -> String {
    let is_word = (1..=40).contains(&code.len())
        && code.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if is_word { code } else { "unreadable" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_are_codes() {
        assert_eq!(Trouble::refused("token_expired: a minute ago").code, "token_expired");
        for message in ["", "No entry", ": x", &"a".repeat(41)] {
            assert_eq!(Trouble::refused(message).code, "unreadable", "{message}");
        }
    }
}

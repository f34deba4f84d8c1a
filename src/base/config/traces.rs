//! Settings for traces.

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Where traces go. They are off without an endpoint.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Traces")]
pub struct Traces {
    /// A collector of OpenTelemetry that takes OTLP over HTTP as JSON, such as `http://localhost:4318`: spans are sent to
    /// `{URL}/v1/traces`
    #[arg(long, env = "OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Headers for the collector: a comma-separated list such as `x-api-key=…`
    #[arg(long, env = "OTLP_HEADERS", hide_env_values = true, value_name = "HEADERS")]
    pub otlp_headers: Option<String>,
    /// The part of all requests and events that is traced, from 0 to 1. A request with `traceparent` is traced if its caller is
    #[arg(long, env = "OTLP_SAMPLE", default_value_t = 0.01, value_name = "PART")]
    pub otlp_sample: f64,
}

impl Traces {
    /// The headers.
    ///
    /// # Errors
    /// One line for the operator. It never repeats them: they may hold a key.
    pub fn headers(&self) -> Result<HeaderMap, String> {
        let wrong = || "OTLP_HEADERS must be a list such as name=value,other=value".to_owned();
        let mut headers = HeaderMap::new();
        let all = self.otlp_headers.as_deref().unwrap_or_default().split(',').map(str::trim);
        for pair in all.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
            let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
            let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(headers)
    }

    /// Checks that they can be used.
    ///
    /// # Errors
    /// One line for the operator that names the setting.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.otlp_endpoint
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return Err("OTLP_ENDPOINT must begin with https:// or http://".to_owned());
        }
        if !(0.0..=1.0).contains(&self.otlp_sample) {
            return Err("OTLP_SAMPLE must be from 0 to 1".to_owned());
        }
        self.headers().map(drop)
    }
}

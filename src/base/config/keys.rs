//! Settings for the keys that verify tokens.

use std::path::PathBuf;

/// Claims that a token must have besides a valid signature; `None` skips the check.
#[derive(Clone, Debug, Default)]
pub struct TokenChecks {
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

/// The sources of verification keys. At least one of `secret`, `pem_file` and `jwks_url` is set.
#[derive(Clone, Debug, Default)]
pub struct KeySource {
    pub secret: Option<String>,
    pub pem_file: Option<PathBuf>,
    pub jwks_url: Option<String>,
    pub checks: TokenChecks,
}

//! Where the keys come from that tokens are verified with.

use std::path::PathBuf;

/// What is checked besides the signature.
#[derive(Clone, Debug, Default)]
pub struct TokenChecks {
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

/// Where the keys come from; at least one is set.
#[derive(Clone, Debug, Default)]
pub struct KeySource {
    pub secret: Option<String>,
    pub pem_file: Option<PathBuf>,
    pub jwks_url: Option<String>,
    pub checks: TokenChecks,
}

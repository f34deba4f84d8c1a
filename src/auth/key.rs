//! One verification key. The algorithm belongs to the key and is never taken from the token.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::Claims;
use crate::base::config::TokenChecks;

/// A verification key with its algorithm and the required claims.
#[derive(Clone)]
pub(super) struct Key {
    key: DecodingKey,
    validation: Validation,
}

impl Key {
    pub(super) fn new(key: DecodingKey, algorithm: Algorithm, checks: &TokenChecks) -> Self {
        let mut validation = Validation::new(algorithm);
        // `Claims::principal` checks the times, with the clock of the server.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = checks.audience.is_some();
        if let Some(audience) = &checks.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = &checks.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        Self { key, validation }
    }

    /// Verifies signature, issuer and audience. The error is a text for the client.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, &'static str> {
        match jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature => "the token's signature is not valid",
                ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                    "the token's algorithm is not the one configured"
                }
                ErrorKind::InvalidIssuer => "the token's issuer is not the one configured",
                ErrorKind::InvalidAudience => "the token's audience is not the one configured",
                ErrorKind::MissingRequiredClaim(_) => "the token lacks a claim that is required here",
                _ => "the token cannot be read",
            }),
        }
    }
}

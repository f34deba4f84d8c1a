//! Authentication: verifies a token and returns the [`Principal`](crate::model::Principal) who sent it.

mod jwks;
mod key;
mod keys;
mod revocations;
mod seen;
mod token;
mod verified;

pub use jwks::usable_keys;
pub use keys::Auth;
pub use token::{Claims, mint, without_scheme};

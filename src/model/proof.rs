//! Proofs that an order was handed over.

use super::{Point, ProofKind};
use crate::base::clock::Time;

/// A proof by the driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    pub kind: ProofKind,
    /// The picture, for a photo or a signature. A number that the customer told was checked before.
    pub picture: Option<Picture>,
}

/// A picture that is kept elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Where the business keeps it. Nobody here reads it.
    pub reference: String,
    /// Of its bytes, in hex.
    pub sha256: String,
    pub media_type: String,
    pub captured_at: Time,
    pub place: Option<Point>,
}

//! What other systems are told.

pub mod order_service;

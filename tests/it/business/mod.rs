//! What a delivery business meets: deliveries that fail, offers, corrections, collections.

mod amended;
mod failed;
mod handover;
mod offers;
mod phones;
mod webhooks;

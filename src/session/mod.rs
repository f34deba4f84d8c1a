//! Who listens on this node: sessions, what they follow, and how they are told.

pub mod beginning;
mod catch_up;
pub mod deliver;
pub mod fleet;
mod hub;
pub mod inbox;
pub mod interest;
pub mod outbox;
mod pace;
mod phase;
mod playing;
mod reply;
mod requests;
pub mod resume;
#[expect(clippy::module_inception, reason = "one session, in the folder of everything about sessions")]
pub mod session;
mod sessions;
mod standing;
mod telling;
mod tokens;
pub mod usage;
mod watching;
pub mod window;
pub mod wire;

pub use sessions::Sessions;

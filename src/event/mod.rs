//! How events get on: the log keeps durable ones, the relay hands them on in order, the bus carries live ones.

pub mod bus;
pub mod log;
pub mod relay;

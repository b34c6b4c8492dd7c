//! The passes of a round on a device: each is a shader in `shaders/` and the host side that binds and runs it.

pub mod done;
pub mod execute;
pub mod finish;
pub mod merkle;
pub mod search;

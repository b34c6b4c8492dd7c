//! The passes, written plainly: the definition that every other kernel is compared with.

mod interpreter;
mod ops;
mod passes;
mod state;

pub use interpreter::Interpreter;
pub use ops::compute;
pub use passes::{Portable, hash_soft_nonce, make_item};
pub use state::State;

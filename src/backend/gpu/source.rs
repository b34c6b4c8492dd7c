//! Shaders' texts: put together from the files in `shaders/`.
//!
//! WGSL has neither `#include` nor a way to do without 64-bit integers where a device has none. So every shader is a
//! list of parts. Arithmetic of 64 bits is written with the functions of one part, of which there are two versions:
//! on `u64`, and on pairs of 32-bit words.

use std::fmt::Write;

/// A file in `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The same text on every device.
    Text(&'static str),
    /// One of two texts that offer the same functions.
    Either {
        /// For devices with 64-bit integers.
        int64: &'static str,
        /// For devices without.
        int32: &'static str,
    },
}

/// Puts a shader together.
pub fn compose(parts: &[Part], constants: &[(&str, u32)], int64: bool) -> String {
    let mut text = String::new();
    for (name, value) in constants {
        writeln!(text, "const {name}: u32 = {value}u;").expect("a string takes everything");
    }
    for part in parts {
        text.push_str(match part {
            Part::Text(text) => text,
            Part::Either { int64: text, .. } if int64 => text,
            Part::Either { int32: text, .. } => text,
        });
        text.push('\n');
    }
    text
}

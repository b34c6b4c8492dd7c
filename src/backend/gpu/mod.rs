//! The GPU backend: whole rounds on devices with compute shaders, many rounds at once.
//!
//! # What lies where on the device
//!
//! A batch has `slots` rounds. All buffers are arrays of 32-bit words, little-endian as the specification has them.
//!
//! | buffer | shape | what it holds |
//! |---|---|---|
//! | tables | slot, item 0..8192, 256 words | table 1's items until they are hashed, then table 2's |
//! | trees | slot, node 0..16384, 16 words | table 1's Merkle tree: leaves, then level by level, root at node 16382 |
//! | programs | slot, see `program` | what a table is made from: instructions, words of MEM, initial state |
//! | executed | run, lane 0..1792, 512 words | states behind both cycles, item number not yet added |
//! | states | state, 512 words | soft nonces in search |

mod context;
mod passes;
mod primitives;
mod program;
mod source;

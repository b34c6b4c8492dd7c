//! `blkinfo_{hash}.json`: what a master tells of one block.

use serde::{Deserialize, Serialize};

use super::BlockHash;

/// The body of `GET {blkinfoUrl or pool}/blkinfo_{hash}.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockInfo {
    /// The block's header.
    pub header: BlockHeader,
    /// Key that announcements on this block are to be signed with, in hexadecimal; `None`: unsigned.
    pub sig_key: Option<String>,
}

/// A block's header as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockHeader {
    /// The block's own hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: i32,
    /// Its version.
    pub version: u32,
    /// Its version in hexadecimal.
    #[serde(rename = "versionHex")]
    pub version_hex: String,
    /// Root of its transactions' tree.
    pub merkleroot: BlockHash,
    /// When it was made, in seconds since 1970.
    pub time: u32,
    /// Its nonce.
    pub nonce: u32,
    /// Its target in compact form, in hexadecimal.
    pub bits: String,
    /// Its difficulty.
    pub difficulty: f64,
    /// The block before it.
    pub previousblockhash: BlockHash,
}

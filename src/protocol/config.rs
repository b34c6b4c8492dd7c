//! `config.json`: what a master tells to mine.

use serde::Serialize;

use super::BlockHash;

/// The body of `GET {pool}/config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Newest block; `None`: the pool is not ready.
    pub tip_hash: Option<BlockHash>,
    /// Height of the next block: the tip is at `current_height − 1`.
    pub current_height: i32,
    /// The master's own address.
    pub master_url: String,
    /// Where payments are made.
    pub paymaker_url: String,
    /// Where announcements go; the order matters.
    pub submit_ann_urls: Vec<String>,
    /// For block miners.
    pub download_ann_urls: Vec<String>,
    /// For block miners.
    pub submit_block_urls: Vec<String>,
    /// Version of the protocol.
    pub version: u32,
    /// Version of the pool's software.
    pub soft_version: u32,
    /// Versions of announcements that the pool takes.
    pub ann_versions: Vec<u8>,
    /// Mine on the block that many below the tip.
    pub mine_old_anns: u32,
    /// Work bits. `None`: this pool cannot be mined on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ann_target: Option<u32>,
    /// Where blkinfo files are, instead of the pool's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkinfo_url: Option<String>,
}

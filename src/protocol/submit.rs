//! `POST /submit`: how announcements are handed in, and what a handler answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names of the request headers that this protocol adds to HTTP.
pub mod headers {
    /// Identifies a miner's process to a master: 32 hexadecimal digits.
    pub const SESSION: &str = "x-pc-sid";
    /// The payment address.
    pub const PAY_TO: &str = "x-pc-payto";
    /// Version of the miner's side of the protocol: 1.
    pub const SOFT_VERSION: &str = "x-pc-sver";
    /// Version of the announcements: 1.
    pub const ANN_VERSION: &str = "x-pc-annver";
    /// Parent block height + 1.
    pub const WORK_NUMBER: &str = "x-pc-worknum";
}

/// What a handler answers, whatever it did with the announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Said to a miner that should know.
    #[serde(default)]
    pub warn: Vec<String>,
    /// Why the batch was refused.
    #[serde(default)]
    pub error: Vec<String>,
    /// What became of the batch; `None` where it was refused.
    pub result: Option<AnnsResult>,
}

/// What became of a batch that was not refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnsResult {
    /// "anns".
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Announcements taken.
    pub accepted: u32,
    /// Announcements seen before.
    #[serde(default)]
    pub dup: u32,
    /// Zero in practice.
    #[serde(default)]
    pub inval: u32,
    /// Zero in practice.
    #[serde(default)]
    pub bad_hash: u32,
    /// Zero in practice.
    #[serde(default)]
    pub runt: u32,
    /// Zero in practice.
    #[serde(default)]
    pub internal_err: u32,
    /// The payment address of the batch.
    #[serde(default)]
    pub pay_to: String,
    /// How many carry no signing key.
    #[serde(default)]
    pub unsigned: u32,
    /// Zero in practice.
    #[serde(default)]
    pub total_len: u32,
    /// The easiest work bits in the batch.
    #[serde(default)]
    pub target: u32,
    /// When it was taken, in milliseconds since 1970.
    #[serde(default)]
    pub time: u64,
    /// `B32(body)[0..16]` in hexadecimal.
    #[serde(default)]
    pub event_id: String,
}

/// A payment address: 1 to 63 letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PayTo(String);

/// Text that is no payment address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayToError {
    /// Something else than letters and digits, or nothing.
    #[error("invalid payto {0}")]
    Malformed(String),
    /// More than 63 characters.
    #[error("payto too long")]
    TooLong,
}

impl FromStr for PayTo {
    type Err = PayToError;

    fn from_str(text: &str) -> Result<Self, PayToError> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(PayToError::Malformed(text.chars().take(80).collect()));
        }
        if text.len() > 63 {
            return Err(PayToError::TooLong);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for PayTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

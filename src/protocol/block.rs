//! `blkinfo_{hash}.json`: what a master tells of one block.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    BlockHash,
    config::{ConfigError, block_hash, json_object, shown},
};

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

impl BlockInfo {
    /// Reads what a master said of a block, for a miner: `hash`, `height`, `previousblockhash` and `sigKey` must be
    /// right (the block at height 0 has none before it); whatever else is missing or damaged becomes zero.
    ///
    /// # Errors
    /// If it is not a JSON object, or one of those keys cannot be used.
    pub fn parse(body: &[u8]) -> Result<Self, ConfigError> {
        let object = json_object(body)?;
        let header = object.get("header").and_then(Value::as_object).ok_or_else(|| {
            ConfigError::Key(format!("header is {}, but must be an object", shown(object.get("header"))))
        })?;
        let height = header.get("height");
        let height = height
            .and_then(Value::as_i64)
            .and_then(|h| i32::try_from(h).ok())
            .filter(|h| *h >= 0)
            .ok_or_else(|| {
            ConfigError::Key(format!("header.height is {}, but must be 0 to {}", shown(height), i32::MAX))
        })?;
        let info = Self {
            header: BlockHeader {
                hash: block_hash("header.hash", header.get("hash"))?,
                height,
                version: number(header, "version"),
                version_hex: text(header, "versionHex"),
                merkleroot: block_hash("header.merkleroot", header.get("merkleroot"))
                    .unwrap_or(BlockHash([0; 32])),
                time: number(header, "time"),
                nonce: number(header, "nonce"),
                bits: text(header, "bits"),
                difficulty: header.get("difficulty").and_then(Value::as_f64).unwrap_or_default(),
                previousblockhash: match header.get("previousblockhash") {
                    None | Some(Value::Null) if height == 0 => BlockHash([0; 32]),
                    value => block_hash("header.previousblockhash", value)?,
                },
            },
            sig_key: match object.get("sigKey") {
                None | Some(Value::Null) => None,
                Some(Value::String(key)) => Some(key.clone()),
                value => return Err(bad_key(value)),
            },
        };
        match info.signing_key() {
            Some(_) => Ok(info),
            None => Err(bad_key(object.get("sigKey"))),
        }
    }

    /// The key that announcements on this block carry: zeros without `sigKey`, `None` if that is not 64
    /// hexadecimal digits.
    pub fn signing_key(&self) -> Option<[u8; 32]> {
        let mut key = [0; 32];
        match &self.sig_key {
            None => Some(key),
            Some(text) => hex::decode_to_slice(text, &mut key).ok().map(|()| key),
        }
    }
}

fn bad_key(value: Option<&Value>) -> ConfigError {
    ConfigError::Key(format!("sigKey is {}, but must be 64 hexadecimal digits or null", shown(value)))
}

fn number(object: &Map<String, Value>, key: &str) -> u32 {
    object.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or_default()
}

fn text(object: &Map<String, Value>, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({"header": {"hash": "ab".repeat(32), "height": 7, "previousblockhash": "cd".repeat(32)}})
    }

    #[test]
    fn what_a_miner_does_not_need_may_be_missing() {
        let info = BlockInfo::parse(good().to_string().as_bytes()).unwrap();
        assert_eq!((info.header.height, info.header.version, info.signing_key()), (7, 0, Some([0; 32])));
        let mut odd = good();
        odd["header"]["version"] = json!("one");
        odd["header"]["difficulty"] = json!([]);
        assert!(BlockInfo::parse(odd.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn it_survives_its_own_writing() {
        let mut value = good();
        value["sigKey"] = json!("01".repeat(32));
        let info = BlockInfo::parse(value.to_string().as_bytes()).unwrap();
        assert_eq!(info.signing_key(), Some([1; 32]));
        assert_eq!(BlockInfo::parse(&serde_json::to_vec(&info).unwrap()).unwrap(), info);
    }

    #[test]
    fn what_a_miner_needs_must_be_right() {
        let cases = [
            ("/header", json!(5), "header is 5"),
            ("/header/hash", json!("ab"), "header.hash is"),
            ("/header/height", json!(-1), "header.height is -1"),
            ("/header/height", json!("7"), "header.height is \"7\""),
            ("/header/previousblockhash", Value::Null, "header.previousblockhash is null"),
            ("/sigKey", json!("zz"), "sigKey is \"zz\""),
            ("/sigKey", json!(7), "sigKey is 7"),
        ];
        for (place, value, expected) in cases {
            let mut damaged = good();
            damaged["sigKey"] = Value::Null;
            *damaged.pointer_mut(place).unwrap() = value;
            let error = BlockInfo::parse(damaged.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{place}: {error}");
        }
    }

    #[test]
    fn the_first_block_has_none_before_it() {
        let body = json!({"header": {"hash": "ab".repeat(32), "height": 0}}).to_string();
        assert_eq!(BlockInfo::parse(body.as_bytes()).unwrap().header.previousblockhash, BlockHash([0; 32]));
    }
}

//! Block hashes, which are written backwards.

use std::{fmt, str::FromStr};

use kernels::Hash32;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A block's hash in internal order, the byte reverse of how it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(pub Hash32);

/// Text that is no block hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block hash is 64 hexadecimal digits, not {0:?}")]
pub struct BlockHashError(String);

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlockHash {
    type Err = BlockHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| BlockHashError(text.chars().take(80).collect()))?;
        bytes.reverse();
        Ok(Self(bytes))
    }
}

impl Serialize for BlockHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_hash_is_shown_backwards() {
        let text = format!("{}01", "00".repeat(31));
        let hash: BlockHash = text.parse().expect("64 digits");
        assert_eq!(hash.0[0], 1);
        assert_eq!(hash.to_string(), text);
        assert!("12".parse::<BlockHash>().is_err());
    }
}

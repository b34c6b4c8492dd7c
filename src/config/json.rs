//! The settings file that scripts for other miners already have, in JSON.

use std::{ffi::OsString, num::NonZero, path::Path, time::Duration};

use serde::Deserialize;

use super::{Origin, file::Given};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    pools: Option<Vec<String>>,
    threads: Option<NonZero<usize>>,
    payment_addr: Option<String>,
    uploaders: Option<NonZero<usize>>,
    upload_timeout: Option<f64>,
    /// −1 is how other miners say that the pool decides.
    mine_old_anns: Option<i64>,
}

/// Reads the file's text; its keys become the flags that they stand for.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<Given>, String> {
    let keys: Keys = serde_json::from_str(text)
        .map_err(|e| if e.is_data() { e.to_string() } else { format!("it is not JSON ({e})") })?;
    let text = |value: Option<String>| value.map(|value| vec![OsString::from(value)]);
    let number = |value: Option<NonZero<usize>>| text(value.map(|value| value.to_string()));
    let settings = [
        ("pools", keys.pools.map(|pools| pools.into_iter().map(Into::into).collect())),
        ("threads", number(keys.threads)),
        ("paymentaddr", text(keys.payment_addr)),
        ("uploaders", number(keys.uploaders)),
        ("uploadtimeout", text(timeout(keys.upload_timeout)?)),
        ("mineold", text(mine_old(keys.mine_old_anns)?)),
    ];
    let origin = Origin::File { path: path.to_owned(), line: None };
    let given = settings.into_iter().filter_map(|(key, values)| {
        Some(Given { table: None, key: key.into(), values: values?, held_by: None, origin: origin.clone() })
    });
    Ok(given.collect())
}

fn mine_old(blocks: Option<i64>) -> Result<Option<String>, String> {
    match blocks {
        None | Some(-1) => Ok(None),
        Some(blocks) if u32::try_from(blocks).is_ok() => Ok(Some(blocks.to_string())),
        Some(blocks) => Err(format!(
            "mine_old_anns in the settings file is {blocks}: it must be 0 or more, or -1 for what the pool asks for"
        )),
    }
}

fn timeout(seconds: Option<f64>) -> Result<Option<String>, String> {
    let Some(seconds) = seconds else { return Ok(None) };
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() => Ok(Some(seconds.to_string())),
        _ => Err(format!(
            "upload_timeout in the settings file is {seconds}: it must be a number of seconds above 0"
        )),
    }
}

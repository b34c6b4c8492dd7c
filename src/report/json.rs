//! Status lines and totals for machines: one JSON object a line.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::{BackendRow, Phase, PoolRow, Snapshot, seconds};
use crate::{
    protocol::difficulty_shown,
    upload::{Account, HandlerRow},
};

/// An object whose `event` is `status`.
pub fn status(snapshot: &Snapshot) -> String {
    format!("{}\n", object("status", snapshot))
}

/// An object whose `event` is `totals`: the same fields, after mining has ended.
pub fn totals(snapshot: &Snapshot) -> String {
    format!("{}\n", object("totals", snapshot))
}

/// What is in a status line, as a value.
pub fn status_object(snapshot: &Snapshot) -> Value {
    object("status", snapshot)
}

fn object(event: &str, snapshot: &Snapshot) -> Value {
    let [short, middle, long] = &snapshot.rates.windows;
    let job = snapshot.job.as_ref().map(|row| {
        json!({
            "parent_hash": row.job.parent_hash,
            "parent_height": row.job.parent_height,
            "work_bits": row.job.work_bits.to_string(),
            "difficulty": difficulty_shown(row.job.work_bits),
            "difficulty_reason": row.hardness.to_string(),
            "pool_difficulty": row.asked.map(difficulty_shown),
            "age": seconds(snapshot.now.saturating_sub(row.since.moment)),
        })
    });
    let pools = snapshot.ledger.pools.iter().zip(&snapshot.pools);
    json!({
        "event": event,
        "time": snapshot.time.duration_since(UNIX_EPOCH).map_or(0.0, seconds),
        "uptime": seconds(snapshot.now),
        "mined": seconds(snapshot.mined),
        "phase": match snapshot.phase {
            Phase::Mining => "mining",
            Phase::Paused => "paused",
            Phase::Draining => "draining",
            Phase::Done => "done",
        },
        "pauses": snapshot.pauses.iter().map(|why| why.name()).collect::<Vec<_>>(),
        "own_pool": snapshot.own_pool,
        "job": job,
        "max_upload_mbit_per_s": snapshot.max_upload_mbit_per_s,
        "rates": { "10s": short, "60s": middle, "15m": long, "highest_e_per_s": snapshot.rates.highest },
        "encryptions": snapshot.work,
        "backends": snapshot.backends.iter().map(backend).collect::<Vec<_>>(),
        "pools": pools.map(|(account, row)| pool(account, row)).collect::<Vec<_>>(),
    })
}

fn backend(row: &BackendRow) -> Value {
    // What it finds is uploaded for all pools together with what others find: it has no upload of its own.
    let [short, middle, long] = row.rates.windows.map(|rate| {
        json!({ "e_per_s": rate.e_per_s, "anns_per_s": rate.anns_per_s, "hashes_per_s": rate.hashes_per_s })
    });
    json!({
        "name": row.name,
        "failed": row.failed,
        "found": row.counters.found,
        "hashes": row.counters.hashes,
        "items": row.counters.items,
        "rounds": row.counters.rounds,
        "rates": { "10s": short, "60s": middle, "15m": long, "highest_e_per_s": row.rates.highest },
    })
}

fn pool(account: &Account, row: &PoolRow) -> Value {
    let causes: Vec<_> = account.causes.iter().map(|((fate, cause), count)| {
        json!({ "fate": fate.to_string(), "cause": cause.to_string(), "count": count })
    }).collect();
    json!({
        "pool": account.pool,
        "removed": row.removed,
        "leads": row.leads,
        "up": row.up,
        "complaint": row.complaint,
        "found": account.found,
        "missed": account.missed,
        "accepted": account.accepted,
        "told_late": account.told_late,
        "duplicate": account.duplicate,
        "rejected": account.rejected,
        "stale": account.stale,
        "overflow": account.overflow,
        "unknown": account.unknown,
        "unwanted": account.unwanted,
        "queued": account.queued,
        "in_flight": account.in_flight,
        "goodrate": account.goodrate(),
        "bytes_uploaded": account.bytes_uploaded,
        "causes": causes,
        "handlers": account.handlers.iter().map(handler).collect::<Vec<_>>(),
    })
}

fn handler(row: &HandlerRow) -> Value {
    json!({
        "url": row.url,
        "queued": row.queued,
        "in_flight": row.in_flight,
        "accepted": row.accepted,
        "duplicate": row.duplicate,
        "rejected": row.rejected,
        "stale": row.stale,
        "overflow": row.overflow,
        "unknown": row.unknown,
        "latency": row.latency.map(seconds),
        "trouble": row.trouble,
    })
}

//! Status lines and totals for machines: one JSON object a line.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Phase, Status, seconds};
use crate::upload::{Account, HandlerRow};

/// An object whose `event` is `status`.
pub fn status(status: &Status) -> String {
    format!("{}\n", object("status", status))
}

/// An object whose `event` is `totals`: the same fields, after mining has ended.
pub fn totals(status: &Status) -> String {
    format!("{}\n", object("totals", status))
}

fn object(event: &str, status: &Status) -> Value {
    let [short, middle, long] = &status.rates;
    let job = status.job.as_ref().map(|job| {
        json!({
            "parent_hash": job.parent_hash,
            "parent_height": job.parent_height,
            "work_bits": job.work_bits.to_string(),
            "difficulty": job.work_bits.difficulty_f64(),
        })
    });
    let backends: Vec<_> = status
        .backends
        .iter()
        .map(|(name, counters)| {
            json!({
                "name": name,
                "found": counters.found,
                "hashes": counters.hashes,
                "items": counters.items,
                "rounds": counters.rounds,
            })
        })
        .collect();
    json!({
        "event": event,
        "time": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, seconds),
        "uptime": seconds(status.now),
        "mined": seconds(status.mined),
        "phase": match status.phase {
            Phase::Mining => "mining",
            Phase::Draining => "draining",
            Phase::Done => "done",
        },
        "job": job,
        "rates": { "10s": short, "60s": middle, "15m": long, "highest_e_per_s": status.highest },
        "encryptions": status.work,
        "backends": backends,
        "pools": status.ledger.pools.iter().map(pool).collect::<Vec<_>>(),
    })
}

fn pool(account: &Account) -> Value {
    let causes: Vec<_> = account.causes.iter().map(|((fate, cause), count)| {
        json!({ "fate": fate.to_string(), "cause": cause.to_string(), "count": count })
    }).collect();
    json!({
        "pool": account.pool,
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
        "latency": row.latency.map(seconds),
        "trouble": row.trouble,
    })
}

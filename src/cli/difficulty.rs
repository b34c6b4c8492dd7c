//! `pktmine difficulty`: which difficulty to ask a pool for.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;

use super::{
    Exit, UsageError, parse_period, print,
    units::{parse_bandwidth, parse_rate},
};
use crate::{
    bench::Report,
    difficulty::{self, Rule, Supply, text},
};

/// The difficulty that is explained unless the user says otherwise: what pools often ask for.
const DIFFICULTY: u64 = 128;

/// The supply that the network's documentation reckons with.
const SUPPLY: f64 = 1000.0;

/// Difficulties up to this one are always shown.
const SHOWN: u64 = 4096;

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
A pool that mines with the announcements of the newest k block periods multiplies its power by their smallest effective \
difficulty times the square of their number. An announcement's effective difficulty halves with each block. The rule in \
force is that its target may not grow easier than difficulty 2; the network's documentation says difficulty 1.

A rate at one difficulty is taken to hold at all; name several (--rate 30Ke/s@2,400Ke/s@128), or measure them: \
pktmine bench --difficulty 2,8,32,128,512 --json > FILE, then --bench FILE.")]
pub struct Arguments {
    /// Difficulty to explain [default: 128, or the recommended one]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    difficulty: Option<u64>,

    /// Announcements that would be found in a block period at difficulty 1 [default: 1000]
    #[arg(long, value_name = "N", value_parser = parse_supply, conflicts_with_all = ["rate", "bench"])]
    supply: Option<f64>,

    /// What the hardware does, at a difficulty if it is said: 700Ke/s, or 30Ke/s@2,400Ke/s@128
    #[arg(long, value_name = "RATE[@N],…", value_delimiter = ',', value_parser = parse_rate_at, conflicts_with = "bench")]
    rate: Vec<RateAt>,

    /// Take the rates from a run that was saved: pktmine bench --json > FILE
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,

    /// The line's upload bandwidth, of which nine tenths are used: 50Mbit/s
    #[arg(long, value_name = "BITS", value_parser = parse_bandwidth)]
    upload: Option<f64>,

    /// Time between two blocks
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_period)]
    block_time: Duration,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    /// Write both curves to a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A rate in e/s, and the difficulty that it holds at.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RateAt {
    rate: f64,
    difficulty: Option<u64>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let block_time = arguments.block_time.as_secs_f64();
    let rates = rates(arguments)?;
    let supply = match &rates {
        Some(rates) => Supply::new(rates.clone(), arguments.upload, block_time),
        None => Supply::of(arguments.supply.unwrap_or(SUPPLY), arguments.upload, block_time),
    };
    let asked = rates.is_some() || arguments.upload.is_some();
    let advice = asked.then(|| difficulty::recommend(&supply, Rule::InForce));
    let explained = arguments.difficulty.or(advice.map(|advice| advice.difficulty)).unwrap_or(DIFFICULTY);
    let curve = difficulty::curve(&supply, SHOWN.max(explained.saturating_mul(8)));

    if let Some(file) = &arguments.svg {
        let picture = difficulty::svg(&supply, explained, &curve);
        fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))?;
    }
    print(if arguments.json {
        format!("{:#}\n", text::json(&supply, explained, &curve, advice.as_ref()))
    } else {
        text::text(&supply, explained, &curve, advice.as_ref())
    })?;
    Ok(Exit::Done)
}

/// The hardware's rates by difficulty, if any were given.
fn rates(arguments: &Arguments) -> Result<Option<Vec<(f64, f64)>>, UsageError> {
    if let Some(file) = &arguments.bench {
        let report = Report::read(file).map_err(|error| UsageError(error.to_string()))?;
        let mut rates: Vec<(f64, f64)> = Vec::new();
        for measurement in &report.measurements {
            let (difficulty, rate) = (measurement.difficulty as f64, measurement.total.e_per_s);
            match rates.iter_mut().find(|(other, _)| *other == difficulty) {
                Some((_, best)) => *best = best.max(rate),
                None => rates.push((difficulty, rate)),
            }
        }
        if rates.is_empty() {
            return Err(UsageError(format!("{} holds no measurement", file.display())));
        }
        return Ok(Some(rates));
    }
    match arguments.rate.as_slice() {
        [] => Ok(None),
        // Where there is one rate alone, it makes no difference what it holds at.
        [one] => Ok(Some(vec![(one.difficulty.unwrap_or(DIFFICULTY) as f64, one.rate)])),
        several => {
            let mut rates: Vec<(f64, f64)> = Vec::new();
            for RateAt { rate, difficulty } in several {
                let missing = "several rates need their difficulties: --rate 30Ke/s@2,400Ke/s@128";
                let difficulty = difficulty.ok_or_else(|| UsageError(missing.into()))?;
                if rates.iter().any(|(other, _)| *other == difficulty as f64) {
                    return Err(UsageError(format!(
                        "--rate has two rates for difficulty {difficulty}: name one"
                    )));
                }
                rates.push((difficulty as f64, *rate));
            }
            Ok(Some(rates))
        }
    }
}

fn parse_rate_at(text: &str) -> Result<RateAt, String> {
    let Some((rate, difficulty)) = text.split_once('@') else {
        return Ok(RateAt { rate: parse_rate(text)?, difficulty: None });
    };
    let difficulty = difficulty.trim().parse().ok().filter(|difficulty| *difficulty > 0);
    let difficulty =
        difficulty.ok_or_else(|| format!("{text:?} names no difficulty behind the @ (try 700Ke/s@128)"))?;
    Ok(RateAt { rate: parse_rate(rate)?, difficulty: Some(difficulty) })
}

fn parse_supply(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "it must be a number above 0".into())
}

//! Rates and bandwidths as people type them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    str::FromStr,
};

use crate::upload::Limit;

/// Reads how many there are to be of something: 1 or more, or 0 too where the type has it.
///
/// # Errors
/// What it must be.
pub fn parse_count<T: FromStr + Least>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("it must be a whole number, {} or more", T::LEAST))
}

/// The least number of a type.
pub trait Least {
    /// It.
    const LEAST: u8;
}

impl Least for NonZero<usize> {
    const LEAST: u8 = 1;
}

impl Least for NonZero<u32> {
    const LEAST: u8 = 1;
}

impl Least for usize {
    const LEAST: u8 = 0;
}

impl Least for u32 {
    const LEAST: u8 = 0;
}

impl Least for u64 {
    const LEAST: u8 = 0;
}

/// Reads an address to listen on; a port alone, or behind `localhost`, is one of this machine, which no other can reach.
///
/// # Errors
/// How to write it.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    match text.strip_prefix("localhost:").unwrap_or(text).parse::<u16>() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(|_| {
            "it must be an address and a port, such as 127.0.0.1:4048, or a port of this machine: 4048"
                .to_owned()
        }),
    }
}

/// Reads a rate in e/s: `700Ke/s`, `1.2M`, `36000`.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.trim();
    let number = number.strip_suffix("e/s").or_else(|| number.strip_suffix("E/s")).unwrap_or(number);
    scaled(number).ok_or_else(|| format!("{text:?} is no rate (try 700Ke/s)"))
}

/// How bandwidths are written, for those who write them otherwise.
const BANDWIDTHS: &str = "bits or bytes a second with their unit, such as 50Mbit/s, 50Mb/s, 800kbit or 6MB/s";

/// Reads a bandwidth in bits a second: `50Mbit/s`, `50Mb/s`, `800kbit`, `6.25MB/s`, `6MiB/s`.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn parse_bandwidth(text: &str) -> Result<f64, String> {
    let rate = text.trim();
    let rate = ["/s", "/sec", "ps"].iter().find_map(|end| rate.strip_suffix(end)).unwrap_or(rate);
    // The longer ones first: "b" ends none of the others.
    let units = [("bits", 1.0), ("bit", 1.0), ("b", 1.0), ("bytes", 8.0), ("byte", 8.0), ("B", 8.0)];
    let found = units.iter().find_map(|(unit, factor)| Some((rate.strip_suffix(unit)?, factor)));
    let bits = found.and_then(|(number, factor)| Some(scaled(number)? * factor));
    bits.ok_or_else(|| format!("{text:?} is no bandwidth: write {BANDWIDTHS}"))
}

/// Reads an upload limit: a bandwidth that lets at least an announcement through each second.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn parse_upload_limit(text: &str) -> Result<Limit, String> {
    let bits = parse_bandwidth(text)?;
    if bits < Limit::LEAST {
        return Err(format!(
            "{text:?} is less than {:.0}kbit/s, which one announcement a second takes",
            Limit::LEAST / 1e3
        ));
    }
    Ok(Limit::new(bits))
}

/// Reads a number above 0 with k, M or G behind it, or with Ki, Mi or Gi.
fn scaled(text: &str) -> Option<f64> {
    let text = text.trim();
    let (text, thousand) = text.strip_suffix('i').map_or((text, 1000.0), |text| (text, 1024.0));
    let power = match text.chars().last()? {
        'k' | 'K' => 1,
        'm' | 'M' => 2,
        'g' | 'G' => 3,
        _ if thousand == 1024.0 => return None,
        _ => 0,
    };
    let number = if power > 0 { &text[..text.len() - 1] } else { text };
    let number = number.trim().parse::<f64>().ok()? * f64::powi(thousand, power);
    (number.is_finite() && number > 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ports_that_are_none_are_refused_with_what_they_must_be() {
        assert_eq!(parse_count::<NonZero<usize>>(" 3 ").map(NonZero::get), Ok(3));
        assert_eq!(parse_count::<usize>("0"), Ok(0));
        for text in ["0", "-1", "many", "", "1.5"] {
            let told = parse_count::<NonZero<u32>>(text).expect_err(text);
            assert_eq!(told, "it must be a whole number, 1 or more", "{text}");
        }
        let loopback = |port: u16| Ok(SocketAddr::from(([127, 0, 0, 1], port)));
        for text in ["18700", "localhost:18700", "127.0.0.1:18700"] {
            assert_eq!(parse_listen(text), loopback(18700), "{text}");
        }
        assert!(parse_listen("[::1]:0").is_ok_and(|address| address.is_ipv6()));
        for text in ["", "nonsense", "127.0.0.1", "70000", "http://127.0.0.1:80"] {
            assert!(parse_listen(text).is_err_and(|told| told.contains("a port of this machine")), "{text}");
        }
    }

    #[test]
    fn rates_and_bandwidths_are_read_as_people_write_them() {
        let rates =
            ["700Ke/s", "700 ke/s", "0.7M", "700000", " 700K "].map(|text| parse_rate(text).map(f64::round));
        assert!(rates.iter().all(|rate| *rate == Ok(700_000.0)), "{rates:?}");
        let bits = [
            "50Mbit/s",
            "50 Mb/s",
            "50Mbps",
            "50Mbit",
            "50mbit/s",
            "50000 kbit/s",
            "0.05Gb/s",
            "6.25MB/s",
            "6.25MBps",
            "6250kB/s",
            "6250 KB/s",
            "50000000bit/s",
            "50Mbits/sec",
        ];
        for text in bits {
            assert_eq!(parse_bandwidth(text).map(f64::round), Ok(50e6), "{text}");
        }
        assert_eq!(parse_bandwidth("1MiB/s"), Ok(8.0 * 1024.0 * 1024.0));
        assert_eq!(parse_bandwidth("800kbit"), Ok(800e3));
    }

    #[test]
    fn a_limit_lets_an_announcement_a_second_through() {
        assert!(parse_upload_limit("15kbit/s").is_err_and(|error| error.contains("16kbit/s")));
        assert_eq!(parse_upload_limit("16kbit/s"), Ok(Limit::new(16e3)));
        assert_eq!(parse_upload_limit("6MB/s").map(Limit::mbit_per_s), Ok(48.0));
    }

    #[test]
    fn what_is_no_number_above_zero_with_its_unit_is_refused() {
        for text in ["", "fast", "0", "-3K", "NaN", "inf", "1e999", "K", "3X", "é"] {
            assert!(parse_rate(text).is_err_and(|error| error.contains("700Ke/s")), "{text}");
        }
        for text in
            ["50", "50M", "50Mbit/h", "", "Mbit/s", "0Mbit/s", "-1Mb/s", "3iB/s", "5 parsec/s", "fast"]
        {
            assert!(parse_bandwidth(text).is_err_and(|error| error.contains("50Mbit/s")), "{text}");
        }
    }
}

//! Rates and bandwidths as people type them.

/// Reads a rate in e/s: `700Ke/s`, `1.2M`, `36000`.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.trim();
    let number = number.strip_suffix("e/s").or_else(|| number.strip_suffix("E/s")).unwrap_or(number);
    scaled(number).ok_or_else(|| format!("{text:?} is no rate (try 700Ke/s)"))
}

/// Reads a bandwidth in bits a second: `50Mbit/s`, `50Mb/s`, `6.25MB/s`.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn parse_bandwidth(text: &str) -> Result<f64, String> {
    let units = [("bit/s", 1.0), ("b/s", 1.0), ("bps", 1.0), ("bit", 1.0), ("B/s", 8.0)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.trim().strip_suffix(unit)?, factor)));
    let bits = found.and_then(|(number, factor)| Some(scaled(number)? * factor));
    bits.ok_or_else(|| format!("{text:?} is no bandwidth (try 50Mbit/s)"))
}

/// Reads a number above 0 with k, M or G behind it.
fn scaled(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, factor) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1e3),
        'M' => (&text[..text.len() - 1], 1e6),
        'G' => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let number = number.trim().parse::<f64>().ok()? * factor;
    (number.is_finite() && number > 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_bandwidths_are_read_as_people_write_them() {
        let rates =
            ["700Ke/s", "700 ke/s", "0.7M", "700000", " 700K "].map(|text| parse_rate(text).map(f64::round));
        assert!(rates.iter().all(|rate| *rate == Ok(700_000.0)), "{rates:?}");
        let bits = ["50Mbit/s", "50 Mb/s", "50Mbps", "50Mbit", "6.25MB/s"].map(parse_bandwidth);
        assert!(bits.iter().all(|bits| *bits == Ok(50e6)), "{bits:?}");
    }

    #[test]
    fn what_is_no_number_above_zero_with_its_unit_is_refused() {
        for text in ["", "fast", "0", "-3K", "NaN", "inf", "1e999", "K", "3X", "é"] {
            assert!(parse_rate(text).is_err_and(|error| error.contains("700Ke/s")), "{text}");
        }
        for text in ["50", "50M", "50Mbit/h", "", "Mbit/s", "0Mbit/s"] {
            assert!(parse_bandwidth(text).is_err_and(|error| error.contains("50Mbit/s")), "{text}");
        }
    }
}

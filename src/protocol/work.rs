//! Work bits as people speak of them.

use kernels::WorkBits;

/// The difficulty that people call work bits by: `2^256 / target`, to the nearest whole number. For `0x20020000`
/// that is 128, where [`WorkBits::difficulty`], by which pools pay, rounds `2^256 / (target + 1)` down to 127 (spec
/// §11).
pub fn difficulty_shown(work_bits: WorkBits) -> f64 {
    let (exponent, mantissa) = (work_bits.get() >> 24, work_bits.get() & 0xff_ffff);
    let target = f64::from(mantissa) * (8.0 * (f64::from(exponent) - 3.0)).exp2();
    (256_f64.exp2() / target).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difficulties_are_shown_as_people_call_them() {
        for (bits, difficulty) in [
            (0x2002_0000, 128.0),
            (0x2001_ffff, 128.0),
            (0x207f_ffff, 2.0),
            (0x1f0f_ffff, 4096.0),
            (0x2055_5555, 3.0),
        ] {
            let work_bits = WorkBits::new(bits).expect("valid work bits");
            assert_eq!(difficulty_shown(work_bits), difficulty, "{bits:#010x}");
        }
        let hardest = WorkBits::new(0x0300_0001).expect("valid work bits");
        assert_eq!(difficulty_shown(hardest), 256_f64.exp2());
    }
}

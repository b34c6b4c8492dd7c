//! Work bits: the compact form of a target, and what follows from it (spec §8, §11).

use ruint::aliases::U256;

use crate::Hash32;

/// The easiest work bits that there are: difficulty 2.
pub const EASIEST: u32 = 0x207f_ffff;

/// Work bits that some hash can meet (spec §8). Invalid ones cannot be made into this type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkBits(u32);

/// Work bits that no hash can ever meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "work bits {0:#010x} can never be met: the exponent must be 3 to 0x20, the mantissa 1 to 0x7fffff, \
     and the whole at most 0x207fffff"
)]
pub struct InvalidWorkBits(pub u32);

impl WorkBits {
    /// Checks the compact form (spec §8).
    ///
    /// # Errors
    /// If the mantissa is zero or above `0x7fffff`, the exponent below 3, or the whole above `0x207fffff`.
    pub const fn new(bits: u32) -> Result<Self, InvalidWorkBits> {
        let (exponent, mantissa) = (bits >> 24, bits & 0xff_ffff);
        if mantissa == 0 || mantissa > 0x7f_ffff || bits > EASIEST || exponent < 3 {
            return Err(InvalidWorkBits(bits));
        }
        Ok(Self(bits))
    }

    /// The compact form.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// `m · 2^(8(e−3))`: a hash must be strictly below it.
    fn target_number(self) -> U256 {
        U256::from(self.0 & 0xff_ffff) << (8 * ((self.0 >> 24) as usize - 3))
    }

    /// The target as a 256-bit little-endian number.
    pub fn target(self) -> Target {
        Target::from_le_bytes(self.target_number().to_le_bytes())
    }

    /// Whether `hash`, read as a 256-bit little-endian number, is strictly below the target.
    pub fn is_met_by(self, hash: &Hash32) -> bool {
        self.target().is_met_by(hash)
    }

    /// Expected hashes per announcement: `2^256 / (target + 1)`, rounded down (spec §11).
    pub fn difficulty(self) -> U256 {
        // 2^256 / (t + 1) = (2^256 − 1 − t) / (t + 1) + 1
        let target = self.target_number();
        (!target) / (target + U256::from(1)) + U256::from(1)
    }

    /// The difficulty as a floating point number, for rates.
    pub fn difficulty_f64(self) -> f64 {
        f64::from(self.difficulty())
    }

    /// The easiest work bits whose difficulty is at least `difficulty` (128: `0x2001ffff`; 2: `0x207fffff`).
    /// A difficulty below 2 gives the easiest work bits of all.
    pub fn at_least(difficulty: u64) -> Self {
        let wanted = U256::from(difficulty.max(2));
        let (mut low, mut high) = (0x0300_0001, EASIEST);
        // Compact forms order as their targets do, but for those with a mantissa below 0x8000, whose targets
        // have another form with a smaller exponent: only normal ones are looked at.
        let normal = |bits: u32| Self::new(bits).ok().filter(|w| w.0 & 0xff_ffff >= 0x8000);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let (exponent, mantissa) = (middle & 0xff00_0000, middle & 0xff_ffff);
            let candidate = exponent | mantissa.clamp(0x8000, 0x7f_ffff);
            match normal(candidate) {
                Some(w) if w.difficulty() >= wanted => low = middle,
                _ => high = middle - 1,
            }
        }
        Self((low & 0xff00_0000) | (low & 0xff_ffff).clamp(0x8000, 0x7f_ffff))
    }

    /// The highest soft nonce that validators accept at these work bits (spec §8).
    pub fn soft_nonce_max(self) -> u32 {
        let log = (self.0 & 0x7f_ffff).ilog2();
        let bits = (22 - log) + (32 - (self.0 >> 24)) * 8 + 10;
        if bits >= 24 { 0xff_ffff } else { 0xff_ffff >> (24 - bits) }
    }

    /// Slightly harder work bits with twice the soft nonces per pair of tables: mantissa `2^⌊log2 m⌋ − 1`
    /// in place of `m`. `None` where the mantissa has no such neighbour or nothing would be gained.
    ///
    /// The range of soft nonces depends on the mantissa's highest bit alone, so for `0x20020000` the neighbour
    /// `0x2001ffff` is harder by 2^−17 and has 65,536 soft nonces instead of 32,768.
    pub fn longer_nonce_range(self) -> Option<Self> {
        let mantissa = self.0 & 0xff_ffff;
        let longer = Self::new((self.0 & 0xff00_0000) | ((1 << mantissa.ilog2()) - 1)).ok()?;
        (longer.soft_nonce_max() > self.soft_nonce_max()).then_some(longer)
    }

    /// Whether an announcement of these work bits needs at least as much work as one of `other`.
    pub fn is_at_least_as_hard_as(self, other: Self) -> bool {
        self.target_number() <= other.target_number()
    }

    /// The difficulty that an announcement mined on `parent_block_height` still counts with in a block of
    /// `block_height` (spec §11). `None`: not usable yet (age below 3) or any more.
    pub fn effective_difficulty(self, parent_block_height: u32, block_height: u32) -> Option<U256> {
        let age = block_height.checked_sub(parent_block_height)?.checked_sub(3)?;
        let easiest = Self(EASIEST).target_number();
        let mut target = self.target_number();
        for _ in 0..age {
            target = target.checked_mul(U256::from(2)).filter(|t| *t <= easiest)?;
        }
        Some((!target) / (target + U256::from(1)) + U256::from(1))
    }
}

impl std::fmt::Debug for WorkBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl std::fmt::Display for WorkBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// A target taken apart for quick comparison: four 64-bit limbs, least significant first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target([u64; 4]);

impl Target {
    fn from_le_bytes(bytes: Hash32) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*chunk);
        }
        Self(limbs)
    }

    /// The limbs, least significant first.
    pub fn limbs(&self) -> &[u64; 4] {
        &self.0
    }

    /// Whether `hash`, read as a 256-bit little-endian number, is strictly below the target.
    pub fn is_met_by(&self, hash: &Hash32) -> bool {
        let hash = Self::from_le_bytes(*hash);
        hash.0.iter().rev().lt(self.0.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(w: u32) -> WorkBits {
        WorkBits::new(w).expect("valid work bits")
    }

    #[test]
    fn a_difficulty_gives_the_easiest_work_bits_that_reach_it() {
        for (difficulty, expected) in [(0, EASIEST), (2, EASIEST), (128, 0x2001_ffff), (4096, 0x1f0f_ffff)] {
            assert_eq!(WorkBits::at_least(difficulty), bits(expected), "difficulty {difficulty}");
        }
        for difficulty in (2..5000).chain([1 << 20, (1 << 33) + 1, u64::MAX]) {
            let found = WorkBits::at_least(difficulty);
            assert!(found.difficulty() >= U256::from(difficulty), "{difficulty}: {found}");
            if let Ok(easier) = WorkBits::new(found.get() + 1) {
                assert!(
                    easier.difficulty() < U256::from(difficulty),
                    "{difficulty}: {found} is not the easiest"
                );
            }
        }
    }

    #[test]
    fn the_longer_nonce_range_doubles_the_soft_nonces_for_a_little_more_work() {
        let longer = bits(0x2002_0000).longer_nonce_range().expect("there is one");
        assert_eq!(longer, bits(0x2001_ffff));
        assert_eq!((bits(0x2002_0000).soft_nonce_max(), longer.soft_nonce_max()), (0x7fff, 0xffff));
        assert_eq!(bits(0x2000_0001).longer_nonce_range(), None, "a mantissa of zero is invalid");
        assert_eq!(bits(0x1d00_8000).longer_nonce_range(), None, "24 bits is all there is");
    }

    #[test]
    fn work_bits_that_no_hash_can_meet_are_refused() {
        for w in [0, 0x2000_0000, 0x2080_0000, 0x20ff_ffff, 0x2100_0001, 0x0200_0001, u32::MAX] {
            assert_eq!(WorkBits::new(w), Err(InvalidWorkBits(w)));
        }
    }

    #[test]
    fn an_announcement_loses_half_of_its_difficulty_each_block_from_age_four_on() {
        let at = |height| bits(0x2001_ffff).effective_difficulty(100, height).map(|d| d.to::<u64>());
        assert_eq!([at(99), at(102), at(103), at(104)], [None, None, Some(128), Some(64)]);
        assert_eq!([at(109), at(110), at(200)], [Some(2), None, None]);
    }
}

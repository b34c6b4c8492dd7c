//! Which work bits to mine with, given those that a pool asks for.

use kernels::WorkBits;

/// How work bits are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkBitsRule {
    /// Mine with exactly what the pool asks for.
    pub exact: bool,
    /// What a round costs before its search begins (both tables and the tree), in hashes of the search.
    pub round_cost_hashes: f64,
    /// Never mine with easier work bits than these.
    pub floor: Option<WorkBits>,
}

impl Default for WorkBitsRule {
    /// 5000 hashes a round. That is low: the plain way pays some 45,000 for 16,384 items and the tree, and faster
    /// kernels speed up tables and search alike. So the longer range is taken only where it pays for certain.
    fn default() -> Self {
        Self { exact: false, round_cost_hashes: 5000.0, floor: None }
    }
}

impl WorkBitsRule {
    /// The work bits to mine with for a pool that asks for `asked`.
    ///
    /// With mantissa `m`, `S` soft nonces per round and tables that cost `τS` hashes, a round of `m` finds
    /// announcements at the rate `m · S / (S + τS)`. The neighbour `m' = 2^⌊log2 m⌋ − 1` has `2S` soft nonces and
    /// finds them at the rate `m' · 2S / (2S + τS)`. It is better where the loss `L = (m − m') / m` is below
    /// `τ / (2 + 2τ)`.
    pub fn choose(&self, asked: WorkBits) -> WorkBits {
        let chosen = match asked.longer_nonce_range() {
            Some(longer) if !self.exact && self.pays(asked, longer) => longer,
            _ => asked,
        };
        match self.floor {
            Some(floor) if !chosen.is_at_least_as_hard_as(floor) => floor,
            _ => chosen,
        }
    }

    /// The work bits to mine with once a pool has refused harder ones than it asks for.
    pub fn choose_exactly(&self, asked: WorkBits) -> WorkBits {
        Self { exact: true, ..self.clone() }.choose(asked)
    }

    fn pays(&self, asked: WorkBits, longer: WorkBits) -> bool {
        let mantissa = |bits: WorkBits| f64::from(bits.get() & 0xff_ffff);
        let loss = (mantissa(asked) - mantissa(longer)) / mantissa(asked);
        let tables = self.round_cost_hashes / (f64::from(asked.soft_nonce_max()) + 1.0);
        loss < tables / (2.0 + 2.0 * tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(w: u32) -> WorkBits {
        WorkBits::new(w).expect("valid work bits")
    }

    #[test]
    fn the_longer_range_is_taken_where_it_costs_less_than_the_tables() {
        let rule = WorkBitsRule::default();
        let cases = [
            (0x2002_0000, 0x2001_ffff), // a power of two loses next to nothing
            (0x2002_1000, 0x2001_ffff), // 3 % less work, 6.6 % is what the tables allow
            (0x2002_8000, 0x2002_8000), // 20 % would be lost
            (0x2001_ffff, 0x2001_ffff), // half would be lost
            (0x207f_ffff, 0x207f_ffff), // as easy as can be: half would be lost
            (0x2000_0001, 0x2000_0001), // there is no such neighbour
        ];
        for (asked, expected) in cases {
            assert_eq!(rule.choose(bits(asked)), bits(expected), "{asked:#x}");
        }
    }

    #[test]
    fn free_tables_or_the_users_wish_leave_the_target_as_it_is() {
        for rule in [
            WorkBitsRule { exact: true, ..Default::default() },
            WorkBitsRule { round_cost_hashes: 0.0, ..Default::default() },
        ] {
            assert_eq!(rule.choose(bits(0x2002_0000)), bits(0x2002_0000));
        }
        assert_eq!(WorkBitsRule::default().choose_exactly(bits(0x2002_0000)), bits(0x2002_0000));
    }

    #[test]
    fn a_floor_is_kept_by_easier_targets_and_ignored_by_harder_ones() {
        let rule = WorkBitsRule { floor: Some(bits(0x2000_ffff)), ..Default::default() };
        assert_eq!(rule.choose(bits(0x2002_0000)), bits(0x2000_ffff));
        assert_eq!(rule.choose_exactly(bits(0x2002_0000)), bits(0x2000_ffff));
        assert_eq!(rule.choose(bits(0x1f0f_ffff)), bits(0x1f0f_ffff));
    }

    #[test]
    fn the_rule_agrees_with_the_rates_it_was_derived_from() {
        let random = &mut fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let exponent = random.u32(0x1d..=0x20) << 24;
            let Ok(asked) = WorkBits::new(exponent | random.u32(1..0x80_0000)) else { continue };
            let rule = WorkBitsRule { round_cost_hashes: random.f64() * 1e5, ..Default::default() };
            let rate = |w: WorkBits| {
                let nonces = f64::from(w.soft_nonce_max()) + 1.0;
                f64::from(w.get() & 0xff_ffff) * nonces / (nonces + rule.round_cost_hashes)
            };
            let Some(longer) = asked.longer_nonce_range() else { continue };
            if (rate(longer) - rate(asked)).abs() / rate(asked) > 1e-6 {
                assert_eq!(rule.choose(asked) == longer, rate(longer) > rate(asked), "{asked} {rule:?}");
            }
        }
    }
}

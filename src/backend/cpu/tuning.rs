//! What depends on the kernel: how large chunks are, and what steps cost each other.

use kernels::Kernel;

use crate::backend::choose::Costs;

/// A kernel's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Columns in a chunk of a table. A chunk takes about a millisecond, three or four with the dearest programs, so
    /// that a new job need not wait.
    pub columns: u32,
    /// Soft nonces in a chunk of the search: 0.5 ms to 2 ms.
    pub nonces: u32,
    /// The reservation price of a candidate for table 1, in units of [`kernels::Program::table_cost`].
    pub price: u64,
    /// What steps cost. The minimum is flat: figures that are a quarter off cost next to nothing.
    pub costs: Costs,
}

impl Tuning {
    /// The figures of a kernel: portable and AVX2 measured on a Zen 3 core over 150 programs and 600 first headers, see
    /// `benches/RESULTS.md`; AVX-512 not measured yet.
    pub fn of(kernel: Kernel) -> Self {
        match kernel {
            // A hash takes 14 µs, table 1 35 ms and 28 µs a unit of its program's cost. A look takes 7 µs at this
            // price, one in 330 is taken.
            Kernel::Portable => Self {
                columns: 8,
                nonces: 128,
                price: 900,
                costs: Costs {
                    table1: 4500.0,
                    table2_unit: 2.0,
                    block: 0.0004,
                    unit: 0.0008,
                    skips_overwritten: false,
                },
            },
            // By calculation: a hash takes 0.4 times as long as with AVX2, table 1 half as long. A look takes no less, so that
            // the price is higher.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512(_) => Self {
                columns: 64,
                nonces: 256,
                price: 3300,
                costs: Costs {
                    table1: 4500.0,
                    table2_unit: 0.14,
                    block: 0.0072,
                    unit: 0.0004,
                    skips_overwritten: true,
                },
            },
            // A hash takes 3.5 µs, table 1 10.2 ms and 0.5 µs a unit, the tree 0.4 ms. A look takes 13 µs at this
            // price, one in 33 is taken. A keystream block takes 25 ns of a hash, a unit 1.1 to 1.9 ns.
            _ => Self {
                columns: 64,
                nonces: 128,
                price: 3000,
                costs: Costs {
                    table1: 3500.0,
                    table2_unit: 0.14,
                    block: 0.0072,
                    unit: 0.0004,
                    skips_overwritten: true,
                },
            },
        }
    }
}

//! Which function computes which opcode, and the loops over rows: the same for every instruction set.
//!
//! As macros, since functions with the instructions of a set are inlined only into functions that have them too.

/// Declares functions that are compiled for an instruction set, and so inlined into each other.
macro_rules! functions {
    (
        $features:literal;
        $($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block)+
    ) => {
        $(
            $(#[$attribute])*
            #[inline]
            #[target_feature(enable = $features)]
            fn $name($($argument: $type),*) -> $result $body
        )+
    };
}

/// Declares `execute`, given what an instruction set has: `Word`, a vector of 32-bit words, `load`, `store` and `all32`
/// for these; and a function for each opcode, named after it. That takes a vector for each operand, or a pair of them,
/// low words first, and gives one, or as many as the opcode has results.
macro_rules! execute {
    ($features:literal) => {
        /// Executes `compute`.
        ///
        /// # Safety
        /// As [`Vectors::execute`](crate::vector::Vectors::execute).
        #[target_feature(enable = $features)]
        pub(super) unsafe fn execute(compute: &Compute, at: Operands) {
            // SAFETY: the caller's promise, for the operands that the opcode takes and the results that it gives.
            unsafe {
                match compute.op {
                    Op::Popcnt8 => one(at, |a| popcnt8(a)),
                    Op::Popcnt16 => one(at, |a| popcnt16(a)),
                    Op::Popcnt32 => one(at, |a| popcnt32(a)),
                    Op::Clz8 => one(at, |a| clz8(a)),
                    Op::Clz16 => one(at, |a| clz16(a)),
                    Op::Clz32 => one(at, |a| clz32(a)),
                    Op::Ctz8 => one(at, |a| ctz8(a)),
                    Op::Ctz16 => one(at, |a| ctz16(a)),
                    Op::Ctz32 => one(at, |a| ctz32(a)),
                    Op::Bswap16 => one(at, |a| bswap16(a)),
                    Op::Bswap32 => one(at, |a| bswap32(a)),

                    Op::Add8 => two(compute, at, |a, b| [add8(a, b)]),
                    Op::Add16 => two(compute, at, |a, b| [add16(a, b)]),
                    Op::Add32 => two(compute, at, |a, b| [add32(a, b)]),
                    Op::Sub8 => two(compute, at, |a, b| [sub8(a, b)]),
                    Op::Sub16 => two(compute, at, |a, b| [sub16(a, b)]),
                    Op::Sub32 => two(compute, at, |a, b| [sub32(a, b)]),
                    Op::Shll8 => two(compute, at, |a, b| [shll8(a, b)]),
                    Op::Shll16 => two(compute, at, |a, b| [shll16(a, b)]),
                    Op::Shll32 => two(compute, at, |a, b| [shll32(a, b)]),
                    Op::Shrl8 => two(compute, at, |a, b| [shrl8(a, b)]),
                    Op::Shrl16 => two(compute, at, |a, b| [shrl16(a, b)]),
                    Op::Shrl32 => two(compute, at, |a, b| [shrl32(a, b)]),
                    Op::Shra8 => two(compute, at, |a, b| [shra8(a, b)]),
                    Op::Shra16 => two(compute, at, |a, b| [shra16(a, b)]),
                    Op::Shra32 => two(compute, at, |a, b| [shra32(a, b)]),
                    Op::Rotl8 => two(compute, at, |a, b| [rotl8(a, b)]),
                    Op::Rotl16 => two(compute, at, |a, b| [rotl16(a, b)]),
                    Op::Rotl32 => two(compute, at, |a, b| [rotl32(a, b)]),
                    Op::Mul8 => two(compute, at, |a, b| [mul8(a, b)]),
                    Op::Mul16 => two(compute, at, |a, b| [mul16(a, b)]),
                    Op::Mul32 => two(compute, at, |a, b| [mul32(a, b)]),
                    Op::And => two(compute, at, |a, b| [and(a, b)]),
                    Op::Or => two(compute, at, |a, b| [or(a, b)]),
                    Op::Xor => two(compute, at, |a, b| [xor(a, b)]),

                    Op::Add8C => two(compute, at, |a, b| add8c(a, b)),
                    Op::Add16C => two(compute, at, |a, b| add16c(a, b)),
                    Op::Add32C => two(compute, at, |a, b| add32c(a, b)),
                    Op::Sub8C => two(compute, at, |a, b| sub8c(a, b)),
                    Op::Sub16C => two(compute, at, |a, b| sub16c(a, b)),
                    Op::Sub32C => two(compute, at, |a, b| sub32c(a, b)),
                    Op::Mul8C => two(compute, at, |a, b| mul8c(a, b)),
                    Op::Mul16C => two(compute, at, |a, b| mul16c(a, b)),
                    Op::Mul32C => two(compute, at, |a, b| mul32c(a, b)),
                    Op::Mulsu8C => two(compute, at, |a, b| mulsu8c(a, b)),
                    Op::Mulsu16C => two(compute, at, |a, b| mulsu16c(a, b)),
                    Op::Mulsu32C => two(compute, at, |a, b| mulsu32c(a, b)),
                    Op::Mulu8C => two(compute, at, |a, b| mulu8c(a, b)),
                    Op::Mulu16C => two(compute, at, |a, b| mulu16c(a, b)),
                    Op::Mulu32C => two(compute, at, |a, b| mulu32c(a, b)),

                    Op::Add64 => four(compute, at, |a, b| add64(a, b)),
                    Op::Sub64 => four(compute, at, |a, b| sub64(a, b)),
                    Op::Shll64 => four(compute, at, |a, b| shll64(a, b)),
                    Op::Shrl64 => four(compute, at, |a, b| shrl64(a, b)),
                    Op::Shra64 => four(compute, at, |a, b| shra64(a, b)),
                    Op::Rotl64 => four(compute, at, |a, b| rotl64(a, b)),
                    Op::Rotr64 => four(compute, at, |a, b| rotr64(a, b)),
                    Op::Mul64 => four(compute, at, |a, b| mul64(a, b)),

                    Op::Add64C => four(compute, at, |a, b| add64c(a, b)),
                    Op::Sub64C => four(compute, at, |a, b| sub64c(a, b)),
                    Op::Mul64C => four(compute, at, |a, b| mul64c(a, b)),
                    Op::Mulsu64C => four(compute, at, |a, b| mulsu64c(a, b)),
                    Op::Mulu64C => four(compute, at, |a, b| mulu64c(a, b)),
                }
            }
        }

        /// Vectors of a row.
        const VECTORS: usize = LANES * 4 / size_of::<Word>();

        /// One word in, one out.
        ///
        /// # Safety
        /// As [`execute()`].
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn one(at: Operands, results: impl Fn(Word) -> Word) {
            for i in 0..VECTORS {
                // SAFETY: the caller's promise.
                unsafe { write(at, i, [results(read(at.a[0], i))]) };
            }
        }

        /// Two words in, `N` out.
        ///
        /// # Safety
        /// As [`execute()`].
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn two<const N: usize>(
            compute: &Compute,
            at: Operands,
            results: impl Fn(Word, Word) -> [Word; N],
        ) {
            if compute.is_immediate {
                let b = all32(compute.immediate as u32);
                for i in 0..VECTORS {
                    // SAFETY: the caller's promise.
                    unsafe { write(at, i, results(read(at.a[0], i), b)) };
                }
            } else {
                for i in 0..VECTORS {
                    // SAFETY: the caller's promise.
                    unsafe { write(at, i, results(read(at.a[0], i), read(at.b[0], i))) };
                }
            }
        }

        /// Two pairs in, `N` words out.
        ///
        /// # Safety
        /// As [`execute()`].
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn four<const N: usize>(
            compute: &Compute,
            at: Operands,
            results: impl Fn([Word; 2], [Word; 2]) -> [Word; N],
        ) {
            if compute.is_immediate {
                let b = [all32(compute.immediate as u32), all32((compute.immediate >> 32) as u32)];
                for i in 0..VECTORS {
                    // SAFETY: the caller's promise.
                    unsafe { write(at, i, results([read(at.a[0], i), read(at.a[1], i)], b)) };
                }
            } else {
                for i in 0..VECTORS {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let a = [read(at.a[0], i), read(at.a[1], i)];
                        write(at, i, results(a, [read(at.b[0], i), read(at.b[1], i)]));
                    }
                }
            }
        }

        /// # Safety
        /// Vector `i` of the row can be read.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn read(row: *const u32, i: usize) -> Word {
            // SAFETY: the caller's promise.
            unsafe { load(row.cast::<Word>().add(i).cast()) }
        }

        /// # Safety
        /// Vector `i` of each of `N` results can be written.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn write<const N: usize>(at: Operands, i: usize, results: [Word; N]) {
            for (n, result) in results.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { store(at.out.cast::<Word>().add(n * VECTORS + i).cast(), result) };
            }
        }
    };
}

pub(crate) use {execute, functions};

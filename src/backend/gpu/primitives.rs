//! The primitives (spec §1) as parts of shaders, for devices with 64-bit integers and without.
//!
//! | part | needs | what it offers, in short | 32-bit operations |
//! |---|---|---|---|
//! | [`CHACHA20`] | | `chacha20(key0, key1, counter_nonce)`: a `Keystream`, `k0` to `k3` | 976 a block |
//! | [`POLY1305`] | | `poly1305_key`, `_new`, `_block`, `_tag` | 60 a block with 64-bit products, 260 without |
//! | [`BLAKE2B`] | [`ROWS`] | `blake2b_new`, `_compress` of a `Blake2bBlock`, `_digest` | 2200 a compression |
//! | [`ROWS`] | | `Word`, `Row`: 64-bit words one by one and by fours | |
//!
//! Bytes are `vec4<u32>`, little-endian, as they lie in buffers.

use super::source::Part;

/// Words of 64 bits, by fours.
pub const ROWS: Part =
    Part::Either { int64: include_str!("../../../shaders/rows_u64.wgsl"), int32: ROWS_WITHOUT_INT64 };

const ROWS_WITHOUT_INT64: &str = concat!(
    include_str!("../../../shaders/rows_halves.wgsl"),
    include_str!("../../../shaders/rows_halves_add_u32.wgsl"),
);

/// The same, made of halves that are added together: where a compiler does not see that two shifts of 64 bits are a
/// rotation.
pub const ROWS_MIXED: Part = Part::Either {
    int64: concat!(
        include_str!("../../../shaders/rows_halves.wgsl"),
        include_str!("../../../shaders/rows_halves_add_u64.wgsl"),
    ),
    int32: ROWS_WITHOUT_INT64,
};

/// BLAKE2b.
pub const BLAKE2B: Part = Part::Text(include_str!("../../../shaders/blake2b.wgsl"));

/// ChaCha20 in straight-line code.
pub const CHACHA20: Part = Part::Text(concat!(
    include_str!("../../../shaders/chacha20.wgsl"),
    include_str!("../../../shaders/chacha20_straight.wgsl"),
));

/// ChaCha20 whose rounds are a loop: a fifth of the code.
pub const CHACHA20_LOOP: Part = Part::Text(concat!(
    include_str!("../../../shaders/chacha20.wgsl"),
    include_str!("../../../shaders/chacha20_loop.wgsl"),
));

/// Poly1305.
pub const POLY1305: Part = Part::Either {
    int64: include_str!("../../../shaders/poly1305_u64.wgsl"),
    int32: include_str!("../../../shaders/poly1305_u32.wgsl"),
};

#[cfg(test)]
mod tests {
    use kernels::primitives::{b32, b64, keystream};
    use poly1305::{Block, Poly1305, universal_hash::KeyInit, universal_hash::UniversalHash};

    use super::*;
    use crate::backend::gpu::context::{Access, testing::TestGpu, testing::on_each_gpu};

    /// Runs `text`, whose function `one(i)` reads `words` of `inputs[i]` from `input` and puts `out` words to `output`.
    fn run<const IN: usize, const OUT: usize>(
        gpu: &TestGpu,
        parts: &[Part],
        text: &'static str,
        inputs: &[[u8; IN]],
    ) -> Vec<[u8; OUT]> {
        const MAIN: &str = "
            @group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
            @group(0) @binding(1) var<storage, read_write> output: array<vec4<u32>>;

            @compute @workgroup_size(32)
            fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                if id.x < COUNT {
                    one(id.x);
                }
            }";
        let parts = [parts, &[Part::Text(text), Part::Text(MAIN)]].concat();
        let constants = [("COUNT", inputs.len() as u32)];
        let shader = gpu.shader("primitive", &parts, &constants, &[Access::Read, Access::Write]);
        let shader = shader.expect("it compiles");
        let input = gpu.upload("input", inputs.as_flattened());
        let output = gpu.buffer("output", (OUT * inputs.len()) as u64);
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let group = shader.bind(gpu, &[whole(&input), whole(&output)]);
        gpu.run(|pass| shader.dispatch(pass, &group, &[0], (inputs.len() as u32).div_ceil(32)));
        gpu.download::<u8>(&output).as_chunks().0.to_vec()
    }

    fn random<const N: usize>(count: usize, seed: u64) -> Vec<[u8; N]> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut inputs = vec![[0; N]; count];
        random.fill(inputs.as_flattened_mut());
        // Carries: a few inputs of ones, and of nothing.
        inputs[0] = [0xff; N];
        inputs[1] = [0; N];
        inputs
    }

    #[test]
    fn chacha20_gives_the_keystream_of_any_block() {
        let text = "fn one(i: u32) {
            let block = chacha20(input[3u * i], input[3u * i + 1u], input[3u * i + 2u]);
            output[4u * i] = block.k0;
            output[4u * i + 1u] = block.k1;
            output[4u * i + 2u] = block.k2;
            output[4u * i + 3u] = block.k3;
        }";
        let mut inputs = random::<48>(100, 1);
        for input in &mut inputs {
            // The portable cipher refuses to go past its last block.
            input[35] &= 0x7f;
        }
        on_each_gpu(|gpu| {
            let straight = run::<48, 64>(gpu, &[CHACHA20], text, &inputs);
            assert_eq!(straight, run(gpu, &[CHACHA20_LOOP], text, &inputs));
            for (input, block) in inputs.iter().zip(straight) {
                let (key, rest) = input.split_first_chunk().expect("32 bytes of key");
                let (counter, nonce) = rest.split_first_chunk().expect("4 bytes of counter");
                let nonce = nonce.try_into().expect("12 bytes of nonce");
                let mut expected = [0; 64];
                keystream(key, nonce, u32::from_le_bytes(*counter), &mut expected);
                assert_eq!(block, expected);
            }
        });
    }

    #[test]
    fn blake2b_hashes_messages_of_one_block_and_of_several() {
        let text = "
            fn block(at: u32) -> Blake2bBlock {
                return Blake2bBlock(
                    input[at], input[at + 1u], input[at + 2u], input[at + 3u],
                    input[at + 4u], input[at + 5u], input[at + 6u], input[at + 7u],
                );
            }

            fn one(i: u32) {
                let first = blake2b_digest(blake2b_compress(blake2b_new(64u), block(24u * i), 128u, true));
                output[6u * i] = first.d0;
                output[6u * i + 1u] = first.d1;
                output[6u * i + 2u] = first.d2;
                output[6u * i + 3u] = first.d3;
                var h = blake2b_new(32u);
                for (var at = 0u; at < 3u; at++) {
                    h = blake2b_compress(h, block(24u * i + 8u * at), 128u * (at + 1u), at == 2u);
                }
                let all = blake2b_digest(h);
                output[6u * i + 4u] = all.d0;
                output[6u * i + 5u] = all.d1;
            }";
        let inputs = random::<384>(50, 2);
        on_each_gpu(|gpu| {
            let found = run::<384, 96>(gpu, &[ROWS, BLAKE2B], text, &inputs);
            if gpu.int64 {
                assert_eq!(found, run(gpu, &[ROWS_MIXED, BLAKE2B], text, &inputs));
            }
            for (input, digests) in inputs.iter().zip(found) {
                assert_eq!(digests[..64], b64(&[&input[..128]]));
                assert_eq!(digests[64..], b32(&[input]));
            }
        });
    }

    #[test]
    fn poly1305_authenticates_random_messages_and_those_that_carry_most() {
        let text = "fn one(i: u32) {
            let key = poly1305_key(input[10u * i]);
            var hash = poly1305_new();
            for (var at = 2u; at < 10u; at++) {
                hash = poly1305_block(hash, key, input[10u * i + at]);
                output[9u * i + at - 2u] = poly1305_tag(hash, vec4(0u));
            }
            output[9u * i + 8u] = poly1305_tag(hash, input[10u * i + 1u]);
        }";
        let mut inputs = random::<160>(1000, 3);
        let mut pick = fastrand::Rng::with_seed(4);
        for input in &mut inputs[500..] {
            // Runs of ones and zeros, keys of one or two bits: hashes just below the modulus and just above it.
            for word in input.as_chunks_mut().0 {
                *word = match pick.u32(..4) {
                    0 => [0; 4],
                    1 => (1u32 << pick.u32(..32)).to_le_bytes(),
                    _ => [0xff; 4],
                };
            }
            if pick.bool() {
                input[..16].fill(0);
                input[0] = pick.u8(1..6);
            }
        }
        on_each_gpu(|gpu| {
            for (input, tags) in inputs.iter().zip(run::<160, 144>(gpu, &[POLY1305], text, &inputs)) {
                let (key, message) = input.split_at(32);
                for (blocks, tag) in (1..).zip(tags.chunks(16)) {
                    let mut key: [u8; 32] = key.try_into().expect("32 bytes of key");
                    if blocks <= 8 {
                        key[16..].fill(0);
                    }
                    let mut poly = Poly1305::new(&key.into());
                    poly.update(&Block::slice_as_chunks(message).0[..blocks.min(8)]);
                    assert_eq!(tag, poly.finalize().as_slice(), "{} blocks of {input:?}", blocks.min(8));
                }
            }
        });
    }
}

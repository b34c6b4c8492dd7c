// Hashes final states, and lists those whose hash meets its round's target (spec §8, step 5). A lane for each state.

struct Immediates {
    states: u32,
}

var<immediate> immediates: Immediates;

@group(0) @binding(0) var<storage, read> rounds: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> origins: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> states: array<vec4<u32>>;
// Winners found, and how many of them are assembled already.
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> winners: array<u32>;

// Whether a hash is strictly below a target, both numbers of 256 bits.
fn is_below(low: vec4<u32>, high: vec4<u32>, target_low: vec4<u32>, target_high: vec4<u32>) -> bool {
    if high.w != target_high.w {
        return high.w < target_high.w;
    }
    if high.z != target_high.z {
        return high.z < target_high.z;
    }
    if high.y != target_high.y {
        return high.y < target_high.y;
    }
    if high.x != target_high.x {
        return high.x < target_high.x;
    }
    if low.w != target_low.w {
        return low.w < target_low.w;
    }
    if low.z != target_low.z {
        return low.z < target_low.z;
    }
    if low.y != target_low.y {
        return low.y < target_low.y;
    }
    return low.x < target_low.x;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let state = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + lane;
    if state >= immediates.states {
        return;
    }

    var h = blake2b_new(32u);
    for (var part = 0u; part < 16u; part++) {
        let at = state * 128u + part * 8u;
        let block = Blake2bBlock(
            states[at],
            states[at + 1u],
            states[at + 2u],
            states[at + 3u],
            states[at + 4u],
            states[at + 5u],
            states[at + 6u],
            states[at + 7u],
        );
        h = blake2b_compress(h, block, 128u * part + 128u, part == 15u);
    }

    let hash = blake2b_digest(h);
    let round = (origins[state].x & 0x7fffffffu) * ROUND_VECTORS + TARGET;
    if is_below(hash.d0, hash.d1, rounds[round], rounds[round + 1u]) {
        states[state * 128u] = hash.d0;
        states[state * 128u + 1u] = hash.d1;
        let place = atomicAdd(&counts[0], 1u);
        if place < OUTPUTS {
            winners[place] = state;
        }
    }
}

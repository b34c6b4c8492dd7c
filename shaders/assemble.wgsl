// Makes announcements of winners (spec §9): a workgroup for each, until none is left. In an output, the announcement
// is followed by room for its hash, the slot, the soft nonce and the item.

@group(0) @binding(0) var<storage, read> rounds: array<u32>;
@group(0) @binding(1) var<storage, read> trees: array<u32>;
@group(0) @binding(2) var<storage, read> states: array<u32>;
@group(0) @binding(3) var<storage, read> tags: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> origins: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> counts: array<u32>;
@group(0) @binding(6) var<storage, read> winners: array<u32>;
@group(0) @binding(7) var<storage, read_write> outputs: array<u32>;

// Where the parts of an announcement begin, in words (spec §3).
const BRANCH: u32 = 22u;
const ROOT: u32 = 230u;
const PREFIX: u32 = 246u;
const END: u32 = 256u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let end = min(counts[0], OUTPUTS);
    for (var winner = counts[1] + workgroup.x; winner < end; winner += workgroups.x) {
        let state = winners[winner];
        let origin = origins[state];
        let slot = origin.x & 0x7fffffffu;
        // The tag before the last round chose the item.
        let item = tags[state].x & 8191u;
        let tree = slot * 16384u;
        let row = state * 512u;
        let output = winner * OUTPUT_WORDS;

        for (var at = lane; at < END; at += WORKGROUP) {
            var word: u32;
            if at < BRANCH {
                word = rounds[slot * ROUND_VECTORS * 4u + at];
                // The soft nonce stands behind the version's byte.
                if at == 0u {
                    word |= origin.y << 8u;
                }
            } else if at < ROOT {
                // A level's nodes begin behind 16384 − (16384 >> depth) others.
                let depth = (at - BRANCH) / 16u;
                let sibling = tree + 16384u - (16384u >> depth) + ((item >> depth) ^ 1u);
                word = trees[sibling * 16u + (at - BRANCH) % 16u] ^ states[row + at - BRANCH];
            } else if at < PREFIX {
                word = trees[(tree + 16382u) * 16u + at - ROOT];
            } else {
                word = states[row + ROOT - BRANCH + at - PREFIX];
            }
            outputs[output + at] = word;
        }
        if lane == 0u {
            outputs[output + END + 8u] = slot;
            outputs[output + END + 9u] = origin.y;
            outputs[output + END + 10u] = item;
        }
    }
}

// Hashes announcements (spec §10): a lane for each, until none is left. The hash goes behind the announcement.

@group(0) @binding(0) var<storage, read> counts: array<u32>;
@group(0) @binding(1) var<storage, read_write> outputs: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let end = min(counts[0], OUTPUTS);
    let stride = workgroups.x * WORKGROUP;
    for (var winner = counts[1] + workgroup.x * WORKGROUP + lane; winner < end; winner += stride) {
        let output = winner * (OUTPUT_WORDS / 4u);
        var h = blake2b_new(32u);
        for (var part = 0u; part < 8u; part++) {
            let at = output + part * 8u;
            let block = Blake2bBlock(
                outputs[at],
                outputs[at + 1u],
                outputs[at + 2u],
                outputs[at + 3u],
                outputs[at + 4u],
                outputs[at + 5u],
                outputs[at + 6u],
                outputs[at + 7u],
            );
            h = blake2b_compress(h, block, 128u * part + 128u, part == 7u);
        }
        let hash = blake2b_digest(h);
        outputs[output + 64u] = hash.d0;
        outputs[output + 65u] = hash.d1;
    }
}

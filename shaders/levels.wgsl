// Hashes one level of Merkle trees into the level above it (spec §8): a lane for each parent.

struct Immediates {
    first_slot: u32,
    slots: u32,
    // The parents' level, 1 to 13.
    level: u32,
}

var<immediate> immediates: Immediates;

@group(0) @binding(0) var<storage, read_write> trees: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + lane;
    let level = immediates.level;
    let parents = 8192u >> level;
    if i >= immediates.slots * parents {
        return;
    }
    let tree = (immediates.first_slot + i / parents) * 16384u;
    let parent = i % parents;

    // Level l begins behind 8192 + 4096 + … nodes: 16384 − (16384 >> l).
    let children = (tree + 16384u - (32768u >> level) + 2u * parent) * 4u;
    let block = Blake2bBlock(
        trees[children],
        trees[children + 1u],
        trees[children + 2u],
        trees[children + 3u],
        trees[children + 4u],
        trees[children + 5u],
        trees[children + 6u],
        trees[children + 7u],
    );
    let node = blake2b_digest(blake2b_compress(blake2b_new(64u), block, 128u, true));

    let at = (tree + 16384u - (16384u >> level) + parent) * 4u;
    trees[at] = node.d0;
    trees[at + 1u] = node.d1;
    trees[at + 2u] = node.d2;
    trees[at + 3u] = node.d3;
}

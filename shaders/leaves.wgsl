// Hashes items into the leaves of Merkle trees (spec §8): a lane for each item.

struct Immediates {
    first_slot: u32,
    slots: u32,
}

var<immediate> immediates: Immediates;

@group(0) @binding(0) var<storage, read> tables: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> trees: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + lane;
    if i >= immediates.slots * 8192u {
        return;
    }
    let item = immediates.first_slot * 8192u + i;

    var h = blake2b_new(64u);
    for (var part = 0u; part < 8u; part++) {
        let at = item * 64u + part * 8u;
        let block = Blake2bBlock(
            tables[at],
            tables[at + 1u],
            tables[at + 2u],
            tables[at + 3u],
            tables[at + 4u],
            tables[at + 5u],
            tables[at + 6u],
            tables[at + 7u],
        );
        h = blake2b_compress(h, block, 128u * part + 128u, part == 7u);
    }

    let leaf = blake2b_digest(h);
    // A tree has room for twice as many nodes as a table has items.
    let at = ((item >> 13u) * 16384u + (item & 8191u)) * 4u;
    trees[at] = leaf.d0;
    trees[at + 1u] = leaf.d1;
    trees[at + 2u] = leaf.d2;
    trees[at + 3u] = leaf.d3;
}

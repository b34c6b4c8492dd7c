// Orders states by what their next round costs, within tiles: a counting sort, a workgroup for each tile. States that
// do the same become neighbours, so that the lanes of a warp run alike. Within a class any order will do.

struct Immediates {
    states: u32,
}

var<immediate> immediates: Immediates;

@group(0) @binding(0) var<storage, read> tags: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;

// As many classes as lanes.
const CLASSES: u32 = 256u;

var<workgroup> places: array<atomic<u32>, CLASSES>;
var<workgroup> sums: array<u32, CLASSES>;

// Enciphering before deciphering, long messages before short ones: what takes longest begins first.
fn class_of(word: u32) -> u32 {
    let decrypts = (word >> 12u) & 1u;
    let add = (word >> 13u) & 7u;
    let len = min(((word >> 17u) & 127u) | 32u, 125u - add);
    return decrypts * 128u + 127u - len;
}

@compute @workgroup_size(CLASSES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let first = tile * TILE;
    let end = min(first + TILE, immediates.states);

    atomicStore(&places[lane], 0u);
    workgroupBarrier();
    for (var state = first + lane; state < end; state += CLASSES) {
        atomicAdd(&places[class_of(tags[state].x)], 1u);
    }
    workgroupBarrier();

    // Where each class begins: the sum of all before it.
    let count = atomicLoad(&places[lane]);
    var sum = count;
    for (var reach = 1u; reach < CLASSES; reach <<= 1u) {
        sums[lane] = sum;
        workgroupBarrier();
        if lane >= reach {
            sum += sums[lane - reach];
        }
        workgroupBarrier();
    }
    atomicStore(&places[lane], first + sum - count);
    workgroupBarrier();

    for (var state = first + lane; state < end; state += CLASSES) {
        order[atomicAdd(&places[class_of(tags[state].x)], 1u)] = state;
    }
}

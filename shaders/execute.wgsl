// Runs programs (spec §6), a lane for each item. Twin: `LaneInterpreter` of the CPU's kernels, and `Interpreter` of the
// portable code.
//
// All lanes of a workgroup take the same course: straight through both bodies of every branch, so that the program
// counter depends on nothing but the program. A lane that is not meant has a position ahead of it where it resumes;
// what it computes until then reaches nothing, and it puts nothing out. No lane ever waits for another.

// The programs, twice: instructions and words.
@group(0) @binding(0) var<storage, read> programs: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> words: array<u32>;
@group(0) @binding(2) var<storage, read> units: array<Unit>;
@group(0) @binding(3) var<storage, read_write> executed: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> scratch: array<u32>;

// Words of a half of the state, which is what a cycle reads, or adds its output to.
const HALF = 256u;

// Workgroups for a unit.
const TILES = UNIT_LANES / LANES;

// This lane, and where its words of the scratch memory begin; rows are LANES apart.
var<private> lane: u32;
var<private> scratch_at: u32;

// Adds `count` rows to the lane's output from `position` on: eight rows to a vector of numbers from `first` on. By fours,
// filled up with rows of zeros; all words are there before the first is stored, so that none waits for another.
fn put_out(first: u32, count: u32, position: u32) {
    for (var i = 0u; i < count; i += 4u) {
        let eight = programs[first + (i >> 3u)];
        let rows = select(eight.xy, eight.zw, (i & 4u) != 0u);
        let at0 = (position + i) % HALF;
        let at1 = (position + i + 1u) % HALF;
        let at2 = (position + i + 2u) % HALF;
        let at3 = (position + i + 3u) % HALF;
        let word0 = load_row(rows.x & 0xffffu) + load_output(at0);
        let word1 = load_row(rows.x >> 16u) + load_output(at1);
        let word2 = load_row(rows.y & 0xffffu) + load_output(at2);
        let word3 = load_row(rows.y >> 16u) + load_output(at3);
        store_output(at0, word0);
        store_output(at1, word1);
        store_output(at2, word2);
        store_output(at3, word3);
    }
}

fn compute(instruction: vec4<u32>) {
    let op = instruction.x & 0xffu;
    let in_register = (instruction.x & IS_IMMEDIATE) == 0u;
    let a = load_row(instruction.y & 0xffffu);
    var b = instruction.z;
    if in_register {
        b = load_row(instruction.z & 0xffffu);
    }
    // The results; whichever it is, the others stay zero.
    var word = 0u;
    var pair = vec2(0u);
    var four = vec4(0u);
    if op < FIRST_PAIR {
        switch op {
            case POPCNT8: { word = popcnt8(a); }
            case POPCNT16: { word = popcnt16(a); }
            case POPCNT32: { word = countOneBits(a); }
            case CLZ8: { word = clz8(a); }
            case CLZ16: { word = clz16(a); }
            case CLZ32: { word = countLeadingZeros(a); }
            case CTZ8: { word = ctz8(a); }
            case CTZ16: { word = ctz16(a); }
            case CTZ32: { word = countTrailingZeros(a); }
            case BSWAP16: { word = bswap16(a); }
            case BSWAP32: { word = bswap32(a); }
            case ADD8: { word = add8(a, b); }
            case ADD16: { word = add16(a, b); }
            case ADD32: { word = a + b; }
            case SUB8: { word = sub8(a, b); }
            case SUB16: { word = sub16(a, b); }
            case SUB32: { word = a - b; }
            case SHLL8: { word = shll8(a, b); }
            case SHLL16: { word = shll16(a, b); }
            case SHLL32: { word = a << (b & 31u); }
            case SHRL8: { word = shrl8(a, b); }
            case SHRL16: { word = shrl16(a, b); }
            case SHRL32: { word = a >> (b & 31u); }
            case SHRA8: { word = shra8(a, b); }
            case SHRA16: { word = shra16(a, b); }
            case SHRA32: { word = shra32(a, b); }
            case ROTL8: { word = rotl8(a, b); }
            case ROTL16: { word = rotl16(a, b); }
            case ROTL32: { word = rotl32(a, b); }
            case MUL8: { word = mul8(a, b); }
            case MUL16: { word = mul16(a, b); }
            case MUL32: { word = a * b; }
            case AND: { word = a & b; }
            case OR: { word = a | b; }
            case XOR: { word = a ^ b; }
            case ADD8C: { pair = wide_bytes(bytes(a) + bytes(b)); }
            case ADD16C: { pair = halves(a) + halves(b); }
            case ADD32C: { pair = add32c(a, b); }
            case SUB8C: { pair = wide_bytes(bytes(a) - bytes(b)); }
            case SUB16C: { pair = halves(a) - halves(b); }
            case SUB32C: { pair = sub32c(a, b); }
            case MUL8C: { pair = wide_bytes(signed_bytes(a) * signed_bytes(b)); }
            case MUL16C: { pair = signed_halves(a) * signed_halves(b); }
            case MUL32C: { pair = mul32c(a, b); }
            case MULSU8C: { pair = wide_bytes(signed_bytes(a) * bytes(b)); }
            case MULSU16C: { pair = signed_halves(a) * halves(b); }
            case MULSU32C: { pair = mulsu32c(a, b); }
            case MULU8C: { pair = wide_bytes(bytes(a) * bytes(b)); }
            case MULU16C: { pair = halves(a) * halves(b); }
            case MULU32C: { pair = mulu32c(a, b); }
            default: {}
        }
    } else {
        let pair_a = vec2(a, load_row(instruction.y >> 16u));
        var pair_b = vec2(b, instruction.w);
        if in_register {
            pair_b.y = load_row(instruction.z >> 16u);
        }
        switch op {
            case ADD64: { pair = add64(pair_a, pair_b); }
            case SUB64: { pair = sub64(pair_a, pair_b); }
            case SHLL64: { pair = shll64(pair_a, b); }
            case SHRL64: { pair = shrl64(pair_a, b); }
            case SHRA64: { pair = shra64(pair_a, b); }
            case ROTL64: { pair = rotl64(pair_a, b); }
            case ROTR64: { pair = rotr64(pair_a, b); }
            case MUL64: { pair = mul64(pair_a, pair_b); }
            case ADD64C: { four = add64c(pair_a, pair_b); }
            case SUB64C: { four = sub64c(pair_a, pair_b); }
            case MUL64C: { four = mul64c(pair_a, pair_b); }
            case MULSU64C: { four = mulsu64c(pair_a, pair_b); }
            case MULU64C: { four = mulu64c(pair_a, pair_b); }
            default: {}
        }
    }
    // One place to store from, so that the code stays short.
    let out = instruction.x >> 16u;
    let results = vec4(word, 0u, 0u, 0u) | vec4(pair, 0u, 0u) | four;
    store_row(out, results.x);
    if op >= FIRST_WITH_TWO {
        store_row(out + 1u, results.y);
        if op >= FIRST_WITH_FOUR {
            store_row(out + 2u, results.z);
            store_row(out + 3u, results.w);
        }
    }
}

// Runs a cycle of a program of `steps` instructions that begin at `first`, with the item's memory at `memory`.
fn run_cycle(first: u32, steps: u32, outputs: u32, memory: u32) {
    var position = 0u;
    // Index of the innermost loop, and of those that it is in, innermost first.
    var turn = 0u;
    var loops = vec4(0u);
    var outer_loops = vec4(0u);
    // The lane is active unless this is ahead.
    var resume = 0u;
    var at = 0u;
    var next = programs[first];
    while at < steps {
        let instruction = next;
        let is_active = at >= resume;
        at++;
        // Asked for before it is needed; past the last one there is something else of the program.
        next = programs[first + at];
        let op = instruction.x & 0xffu;
        if op < MEMORY {
            compute(instruction);
            continue;
        }
        if op >= END_LOOP && is_active {
            let count = instruction.x >> 16u;
            put_out(outputs + instruction.y, count, position);
            position += count;
        }
        switch op {
            case MEMORY: {
                let word = instruction.y + (turn + instruction.w) * instruction.z;
                store_row(instruction.x >> 16u, words[memory + word % HALF]);
            }
            case LOOP: {
                outer_loops = vec4(loops.w, outer_loops.xyz);
                loops = vec4(turn, loops.xyz);
                turn = 0u;
            }
            case IF: {
                if is_active && (load_row(instruction.y) & instruction.z) == 0u {
                    resume = instruction.w;
                }
            }
            case END_LOOP: {
                turn++;
                if turn < instruction.z {
                    // What was passed lies ahead again.
                    resume = select(resume, 0u, is_active);
                    at = instruction.w;
                    next = programs[first + at];
                } else {
                    turn = loops.x;
                    loops = vec4(loops.yzw, outer_loops.x);
                    outer_loops = vec4(outer_loops.yzw, 0u);
                }
            }
            case ELSE: {
                resume = select(resume, instruction.w, is_active);
            }
            default: {}
        }
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_lane: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let unit_index = index / TILES;
    if unit_index >= immediates.units {
        return;
    }
    let unit = units[immediates.first_unit + unit_index];
    let tile = index % TILES;
    if tile * LANES >= unit.count {
        return;
    }
    lane = local_lane;
    let unit_lane = tile * LANES + lane;
    scratch_at = unit.scratch + tile * unit.scratch_rows * LANES + lane;

    let header = programs[unit.program];
    let steps = header.x;
    let inputs = header.y;
    let first_input = header.z;
    let zero_row = header.w;
    let places = programs[unit.program + 1u];
    let outputs = unit.program + places.x;
    let input_words = 4u * (unit.program + places.y);
    let initial = unit.program + places.w;
    // Lanes past the end run another item's course, for nothing.
    let number = unit.first + unit_lane;
    let memory = 4u * (unit.program + places.z) + number % UNIT_LANES;

    store_row(zero_row, 0u);
    for (var i = 0u; i < inputs; i++) {
        let word = words[input_words + i];
        store_row(first_input + i, select(words[4u * initial + word], number, word == 0u));
    }
    for (var cycle = 0u; cycle < 2u; cycle++) {
        // The second half of the state in the first cycle, the first one in the second.
        let half = (1u - cycle) * (HALF / 4u);
        for (var i = 0u; i < HALF / 4u; i++) {
            let before = programs[initial + half + i];
            store_output(4u * i, before.x);
            store_output(4u * i + 1u, before.y);
            store_output(4u * i + 2u, before.z);
            store_output(4u * i + 3u, before.w);
        }
        run_cycle(unit.program + 2u, steps, outputs, memory);
        if unit_lane < unit.count {
            let state = (unit_index * UNIT_LANES + unit_lane) * (HALF / 2u) + half;
            for (var i = 0u; i < HALF / 4u; i++) {
                executed[state + i] = vec4(
                    load_output(4u * i),
                    load_output(4u * i + 1u),
                    load_output(4u * i + 2u),
                    load_output(4u * i + 3u),
                );
            }
        }
        for (var i = 0u; i < inputs; i++) {
            store_row(first_input + i, load_output(words[input_words + i]));
        }
    }
}

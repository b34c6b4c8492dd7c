// Takes states through one of the four rounds of a search (spec §8, step 5): reads an item, FUZZ, CRYPT (spec §7). A
// lane for each state.
//
// ROUND is the round's number, 0 to 3. The first makes the states out of slices of soft nonces; the last writes all of
// a state. Between two rounds nothing is kept but what the next item does not overwrite: the tag, by which it is
// chosen, and the state's bytes from 1056 on. Those are not stored either as long as they are INIT's.
//
// Content is counted in units of 16 bytes, which are vectors here: unit u lies at vector u + 3 of a state, and the
// first 63 come from the item, where unit u is vector u + 1.

struct Immediates {
    states: u32,
    // Of the first round: which pieces of `slices` these states are.
    first_piece: u32,
    pieces: u32,
}

var<immediate> immediates: Immediates;

@group(0) @binding(0) var<storage, read> rounds: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> tables: array<vec4<u32>>;
// Slot, first soft nonce, and the states from where on and before which they are the piece's.
@group(0) @binding(2) var<storage, read> slices: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read_write> states: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> tags: array<vec4<u32>>;
// Slot, with FRESH or without, and soft nonce.
@group(0) @binding(6) var<storage, read_write> origins: array<vec2<u32>>;

const FIRST: bool = ROUND == 0u;
const LAST: bool = ROUND == 3u;

// Units that the item covers, and units that fit into a state.
const ITEM_UNITS: u32 = 63u;
const UNITS: u32 = 125u;

// Nothing behind the item has changed since INIT.
const FRESH: u32 = 0x80000000u;

// Where the units of a state come from.
struct Source {
    // Vectors: unit 0 in the table, in the state, and in the round's initial state.
    item: u32,
    state: u32,
    initial: u32,
    fresh: bool,
}

fn unit(source: Source, u: u32) -> vec4<u32> {
    if u < ITEM_UNITS {
        return tables[source.item + u];
    }
    if FIRST || source.fresh {
        return rounds[source.initial + u];
    }
    return states[source.state + u];
}

// Of the last unit of a message whose last `tzc` bytes are zero, what stays.
fn before_zeros(tzc: u32) -> vec4<u32> {
    let bytes = clamp(vec4(16, 12, 8, 4) - vec4(i32(tzc)), vec4(0), vec4(4));
    let some = (vec4(1u) << (vec4<u32>(bytes & vec4(3)) * 8u)) - 1u;
    return select(some, vec4(0xffffffffu), bytes == vec4(4));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + lane;
    if i >= immediates.states {
        return;
    }

    var state = i;
    var slot: u32;
    var soft_nonce: u32;
    var old_tag: vec4<u32>;
    var fresh = FIRST;
    if FIRST {
        var low = immediates.first_piece;
        var high = low + immediates.pieces - 1u;
        while low < high {
            let middle = (low + high) / 2u;
            if i < slices[middle].w {
                high = middle;
            } else {
                low = middle + 1u;
            }
        }
        let piece = slices[low];
        slot = piece.x;
        soft_nonce = piece.y + i - piece.z;
        old_tag = rounds[slot * ROUND_VECTORS + INITIAL_STATE + 1u];
    } else {
        if SORTED != 0u {
            state = order[i];
        }
        let origin = origins[state];
        slot = origin.x & ~FRESH;
        fresh = (origin.x & FRESH) != 0u;
        soft_nonce = origin.y;
        old_tag = tags[state];
    }
    let initial = slot * ROUND_VECTORS + INITIAL_STATE;
    let start = vec3(soft_nonce, 0u, rounds[initial].z);

    // The header's fields. FUZZ makes them of the word that also chooses the item.
    let word = old_tag.x;
    let azc = word & 15u;
    let tzc = (word >> 8u) & 15u;
    let decrypts = (word & 0x1000u) != 0u;
    let add = (word >> 13u) & 7u;
    let wanted = ((word >> 17u) & 127u) | 32u;
    let len = min(wanted, UNITS - add);
    let units = add + len;
    let row = state * 128u;
    let item = (slot * 8192u + (word & 8191u)) * 64u;
    let source = Source(item + 1u, row + 3u, initial + 3u, fresh);

    let key0 = old_tag;
    let key1 = tables[item];
    let one_time = chacha20(key0, key1, vec4(0u, start));
    let key = poly1305_key(one_time.k0);
    var hash = poly1305_new();

    for (var u = 0u; u < add; u++) {
        let x = tables[source.item + u];
        hash = poly1305_block(hash, key, x);
        if LAST {
            states[source.state + u] = x;
        }
    }

    // A keystream block at a time. What the last one has past the message's end is neither authenticated nor stored.
    for (var done = 0u; done < len; done += 4u) {
        let u = add + done;
        let rest = len - done;
        var x0: vec4<u32>;
        var x1: vec4<u32>;
        var x2: vec4<u32>;
        var x3: vec4<u32>;
        if u + 4u <= ITEM_UNITS {
            x0 = tables[source.item + u];
            x1 = tables[source.item + u + 1u];
            x2 = tables[source.item + u + 2u];
            x3 = tables[source.item + u + 3u];
        } else {
            x0 = unit(source, u);
            x1 = unit(source, u + 1u);
            x2 = unit(source, u + 2u);
            x3 = unit(source, u + 3u);
        }

        // What is authenticated is the enciphered message: what is read where it is deciphered, else what comes out.
        var c0 = x0;
        var c1 = x1;
        var c2 = x2;
        var c3 = x3;
        // What the next item overwrites need not be deciphered.
        let stays = LAST || u + 4u > ITEM_UNITS;
        if stays || !decrypts {
            let keystream = chacha20(key0, key1, vec4(done / 4u + 1u, start));
            x0 ^= keystream.k0;
            x1 ^= keystream.k1;
            x2 ^= keystream.k2;
            x3 ^= keystream.k3;
            if !decrypts {
                if rest <= 4u {
                    let mask = before_zeros(tzc);
                    x0 = select(x0, x0 & mask, rest == 1u);
                    x1 = select(x1, x1 & mask, rest == 2u);
                    x2 = select(x2, x2 & mask, rest == 3u);
                    x3 = select(x3, x3 & mask, rest == 4u);
                }
                c0 = x0;
                c1 = x1;
                c2 = x2;
                c3 = x3;
            }
        }

        hash = poly1305_block(hash, key, c0);
        if rest > 1u {
            hash = poly1305_block(hash, key, c1);
        }
        if rest > 2u {
            hash = poly1305_block(hash, key, c2);
        }
        if rest > 3u {
            hash = poly1305_block(hash, key, c3);
        }

        if stays {
            let at = source.state + u;
            if LAST || u >= ITEM_UNITS {
                states[at] = x0;
            }
            if rest > 1u && (LAST || u + 1u >= ITEM_UNITS) {
                states[at + 1u] = x1;
            }
            if rest > 2u && (LAST || u + 2u >= ITEM_UNITS) {
                states[at + 2u] = x2;
            }
            if rest > 3u {
                states[at + 3u] = x3;
            }
        }
    }

    // u64(additional data − azc) wraps, u64(message − tzc) does not.
    let additional = add * 16u - azc;
    let borrow = select(0u, 0xffffffffu, azc > add * 16u);
    hash = poly1305_block(hash, key, vec4(additional, borrow, len * 16u - tzc, 0u));
    let tag = poly1305_tag(hash, one_time.k1);

    if LAST {
        // What lies behind the message, and the header. The old tag stays where it is: it tells which item was read.
        for (var u = units; u < UNITS; u++) {
            states[source.state + u] = unit(source, u);
        }
        let truncated = u32(len != wanted);
        states[row] = vec4(start, (word & 0xffffu) | (truncated << 16u) | (len << 17u));
        states[row + 1u] = tag;
        states[row + 2u] = key1;
    } else {
        tags[state] = tag;
        let changes = fresh && units > ITEM_UNITS;
        if changes {
            for (var u = units; u < UNITS; u++) {
                states[source.state + u] = rounds[source.initial + u];
            }
        }
        if FIRST || changes {
            origins[state] = vec2(slot | select(0u, FRESH, fresh && !changes), soft_nonce);
        }
    }
}

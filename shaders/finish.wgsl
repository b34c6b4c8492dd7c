// Makes items of the states that programs left: FUZZ and CRYPT (spec §7), of which the first 1024 bytes are kept. Twin:
// `State::fuzz` and `State::crypt` of the portable code.
//
// A thread makes an item. Copies of a lane differ in the item number, which is the nonce's first word, so nothing of the
// keystream is shared; but how long a state is and whether it is deciphered is.

@group(0) @binding(0) var<storage, read> units: array<Unit>;
@group(0) @binding(1) var<storage, read> executed: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> tables: array<vec4<u32>>;

// Workgroups for a copy of a unit.
const TILES = UNIT_LANES / LANES;

// Vectors of a state and of an item; where a state's content begins.
const STATE = 128u;
const ITEM = 64u;
const CONTENT = 3u;

// What is done with a message.
struct Message {
    // Where the state and the item begin.
    state: u32,
    item: u32,
    // The message's last vector ends here, and there these bytes of it remain.
    end: u32,
    remains: vec4<u32>,
    decrypts: bool,
}

// FUZZ: the header's data.
fn fuzz(word4: u32) -> u32 {
    return (word4 & 0x00ffffffu) | (32u << 17u);
}

fn decrypts(data: u32) -> bool {
    return (data & 0x1000u) != 0u;
}

fn additional(data: u32) -> u32 {
    return (data >> 13u) & 7u;
}

fn message_length(data: u32) -> u32 {
    return min((data >> 17u) & 127u, 125u - additional(data));
}

// The bytes of a vector but for the last `count`, which is less than 16.
fn all_but_last(count: u32) -> vec4<u32> {
    let bytes = vec4(16u - count) - min(vec4(16u - count), vec4(0u, 4u, 8u, 12u));
    return select((vec4(1u) << (8u * min(bytes, vec4(3u)))) - vec4(1u), vec4(0xffffffffu), bytes >= vec4(4u));
}

// Vector `at` of the state, if the message goes that far.
fn take(message: Message, hash: PolyHash, key: PolyKey, at: u32, keystream: vec4<u32>) -> PolyHash {
    if at >= message.end {
        return hash;
    }
    let before = executed[message.state + at];
    var after = before ^ keystream;
    if !message.decrypts && at + 1u == message.end {
        after &= message.remains;
    }
    if at < ITEM {
        tables[message.item + at] = after;
    }
    return poly1305_block(hash, key, select(after, before, message.decrypts));
}

// Makes item `number` of the state that begins at `state`.
fn make_item(state: u32, item: u32, number: u32) {
    let head = executed[state];
    let key0 = executed[state + 1u];
    let key1 = executed[state + 2u];
    let nonce = vec3(head.x + number, head.yz);
    let data = fuzz(key0.x);
    let add = additional(data);
    let length = message_length(data);
    let azc = data & 15u;
    let tzc = (data >> 8u) & 15u;
    let truncated = select(0x10000u, 0u, length == ((data >> 17u) & 127u));
    tables[item] = vec4(nonce, (data & 0xff00ffffu) | truncated | (length << 17u));
    tables[item + 2u] = key1;

    let one_time_key = chacha20(key0, key1, vec4(0u, nonce));
    let key = poly1305_key(one_time_key.k0);
    var hash = poly1305_new();
    let first = CONTENT + add;
    for (var at = CONTENT; at < first; at++) {
        let block = executed[state + at];
        tables[item + at] = block;
        hash = poly1305_block(hash, key, block);
    }
    let message = Message(state, item, first + length, all_but_last(tzc), decrypts(data));
    var counter = 1u;
    for (var at = first; at < message.end; at += 4u) {
        // What is deciphered past the item is seen by nobody.
        var stream = Keystream(vec4(0u), vec4(0u), vec4(0u), vec4(0u));
        if !message.decrypts || at < ITEM {
            stream = chacha20(key0, key1, vec4(counter, nonce));
        }
        hash = take(message, hash, key, at, stream.k0);
        hash = take(message, hash, key, at + 1u, stream.k1);
        hash = take(message, hash, key, at + 2u, stream.k2);
        hash = take(message, hash, key, at + 3u, stream.k3);
        counter++;
    }
    for (var at = message.end; at < ITEM; at++) {
        tables[item + at] = executed[state + at];
    }
    // The first length wraps below zero.
    let borrow = select(0u, 0xffffffffu, azc > 16u * add);
    hash = poly1305_block(hash, key, vec4(16u * add - azc, borrow, 16u * length - tzc, 0u));
    tables[item + 1u] = poly1305_tag(hash, one_time_key.k1);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let unit_index = index / (TILES * COPIES);
    if unit_index >= immediates.units {
        return;
    }
    let unit = units[immediates.first_unit + unit_index];
    let copy = (index / TILES) % COPIES;
    let first_lane = (index % TILES) * LANES;
    if copy >= unit.copies || first_lane >= unit.count {
        return;
    }
    let first_state = unit_index * UNIT_LANES;
    let lane = first_lane + place(first_state + first_lane, unit.count - first_lane, thread);
    let number = unit.first + lane + copy * UNIT_LANES;
    if lane < unit.count && number < TABLE_ITEMS {
        make_item((first_state + lane) * STATE, (unit.slot * TABLE_ITEMS + number) * ITEM, number);
    }
}

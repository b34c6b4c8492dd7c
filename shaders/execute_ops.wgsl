// What every opcode computes (spec §5), on words of 32 bits. Where it pays, the parts of a word are worked on in place;
// where not, as vectors of its bytes or halves. `mul_high` comes from mul_high_u64.wgsl or mul_high_u32.wgsl.

fn bytes(x: u32) -> vec4<u32> {
    return (vec4(x) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
}

fn signed_bytes(x: u32) -> vec4<u32> {
    return bitcast<vec4<u32>>(bitcast<vec4<i32>>(vec4(x) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

// The low bytes.
fn join_bytes(v: vec4<u32>) -> u32 {
    let b = v & vec4(0xffu);
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}

// The low halves, as the two words of a result.
fn wide_bytes(v: vec4<u32>) -> vec2<u32> {
    return (v.xz & vec2(0xffffu)) | (v.yw << vec2(16u));
}

fn halves(x: u32) -> vec2<u32> {
    return vec2(x & 0xffffu, x >> 16u);
}

fn signed_halves(x: u32) -> vec2<u32> {
    return bitcast<vec2<u32>>(bitcast<vec2<i32>>(vec2(x << 16u, x)) >> vec2(16u));
}

fn join_halves(v: vec2<u32>) -> u32 {
    return (v.x & 0xffffu) | (v.y << 16u);
}

fn popcnt8(x: u32) -> u32 {
    let pairs = x - ((x >> 1u) & 0x55555555u);
    let quads = (pairs & 0x33333333u) + ((pairs >> 2u) & 0x33333333u);
    return (quads + (quads >> 4u)) & 0x0f0f0f0fu;
}

fn popcnt16(x: u32) -> u32 {
    let counts = popcnt8(x);
    return (counts + (counts >> 8u)) & 0x00ff00ffu;
}

// Leading zeros are what is left zero when ones are smeared down, trailing zeros when they are smeared up.

fn clz8(x: u32) -> u32 {
    let a = x | ((x >> 1u) & 0x7f7f7f7fu);
    let b = a | ((a >> 2u) & 0x3f3f3f3fu);
    return popcnt8(~(b | ((b >> 4u) & 0x0f0f0f0fu)));
}

fn clz16(x: u32) -> u32 {
    let a = x | ((x >> 1u) & 0x7fff7fffu);
    let b = a | ((a >> 2u) & 0x3fff3fffu);
    let c = b | ((b >> 4u) & 0x0fff0fffu);
    return popcnt16(~(c | ((c >> 8u) & 0x00ff00ffu)));
}

fn ctz8(x: u32) -> u32 {
    let a = x | ((x << 1u) & 0xfefefefeu);
    let b = a | ((a << 2u) & 0xfcfcfcfcu);
    return popcnt8(~(b | ((b << 4u) & 0xf0f0f0f0u)));
}

fn ctz16(x: u32) -> u32 {
    let a = x | ((x << 1u) & 0xfffefffeu);
    let b = a | ((a << 2u) & 0xfffcfffcu);
    let c = b | ((b << 4u) & 0xfff0fff0u);
    return popcnt16(~(c | ((c << 8u) & 0xff00ff00u)));
}

fn bswap16(x: u32) -> u32 {
    return ((x >> 8u) & 0x00ff00ffu) | ((x << 8u) & 0xff00ff00u);
}

fn bswap32(x: u32) -> u32 {
    let swapped = bswap16(x);
    return (swapped >> 16u) | (swapped << 16u);
}

// Sums without the parts' top bits, which are added apart, carry none into the part above.

fn add8(a: u32, b: u32) -> u32 {
    return ((a & 0x7f7f7f7fu) + (b & 0x7f7f7f7fu)) ^ ((a ^ b) & 0x80808080u);
}

fn add16(a: u32, b: u32) -> u32 {
    return ((a & 0x7fff7fffu) + (b & 0x7fff7fffu)) ^ ((a ^ b) & 0x80008000u);
}

fn sub8(a: u32, b: u32) -> u32 {
    return ((a | 0x80808080u) - (b & 0x7f7f7f7fu)) ^ (~(a ^ b) & 0x80808080u);
}

fn sub16(a: u32, b: u32) -> u32 {
    return ((a | 0x80008000u) - (b & 0x7fff7fffu)) ^ (~(a ^ b) & 0x80008000u);
}

fn shll8(a: u32, b: u32) -> u32 {
    return join_bytes(bytes(a) << (bytes(b) & vec4(7u)));
}

fn shll16(a: u32, b: u32) -> u32 {
    return join_halves(halves(a) << (halves(b) & vec2(15u)));
}

fn shrl8(a: u32, b: u32) -> u32 {
    return join_bytes(bytes(a) >> (bytes(b) & vec4(7u)));
}

fn shrl16(a: u32, b: u32) -> u32 {
    return join_halves(halves(a) >> (halves(b) & vec2(15u)));
}

fn shra8(a: u32, b: u32) -> u32 {
    return join_bytes(bitcast<vec4<u32>>(bitcast<vec4<i32>>(signed_bytes(a)) >> (bytes(b) & vec4(7u))));
}

fn shra16(a: u32, b: u32) -> u32 {
    return join_halves(bitcast<vec2<u32>>(bitcast<vec2<i32>>(signed_halves(a)) >> (halves(b) & vec2(15u))));
}

fn shra32(a: u32, b: u32) -> u32 {
    return bitcast<u32>(bitcast<i32>(a) >> (b & 31u));
}

fn rotl8(a: u32, b: u32) -> u32 {
    let part = bytes(a);
    let by = bytes(b) & vec4(7u);
    return join_bytes((part << by) | (part >> (vec4(8u) - by)));
}

fn rotl16(a: u32, b: u32) -> u32 {
    let part = halves(a);
    let by = halves(b) & vec2(15u);
    return join_halves((part << by) | (part >> (vec2(16u) - by)));
}

fn rotl32(a: u32, b: u32) -> u32 {
    let by = b & 31u;
    return (a << by) | (a >> ((32u - by) & 31u));
}

fn mul8(a: u32, b: u32) -> u32 {
    return join_bytes(bytes(a) * bytes(b));
}

fn mul16(a: u32, b: u32) -> u32 {
    return join_halves(halves(a) * halves(b));
}

fn add32c(a: u32, b: u32) -> vec2<u32> {
    let low = a + b;
    return vec2(low, select(0u, 1u, low < a));
}

fn sub32c(a: u32, b: u32) -> vec2<u32> {
    return vec2(a - b, select(0u, 0xffffffffu, a < b));
}

// All ones if the word is negative.
fn sign_mask(x: u32) -> u32 {
    return bitcast<u32>(bitcast<i32>(x) >> 31u);
}

// A negative factor, taken as unsigned, is 2^32 too large: that makes the upper word too large by the other factor.

fn mul32c(a: u32, b: u32) -> vec2<u32> {
    return vec2(a * b, mul_high(a, b) - (sign_mask(a) & b) - (sign_mask(b) & a));
}

fn mulsu32c(a: u32, b: u32) -> vec2<u32> {
    return vec2(a * b, mul_high(a, b) - (sign_mask(a) & b));
}

fn mulu32c(a: u32, b: u32) -> vec2<u32> {
    return vec2(a * b, mul_high(a, b));
}

// Pairs, the low word first.

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn shll64(a: vec2<u32>, b: u32) -> vec2<u32> {
    let by = b & 31u;
    let low = a.x << by;
    let high = (a.y << by) | ((a.x >> 1u) >> (31u - by));
    return select(vec2(low, high), vec2(0u, low), (b & 32u) != 0u);
}

fn shrl64(a: vec2<u32>, b: u32) -> vec2<u32> {
    let by = b & 31u;
    let low = (a.x >> by) | ((a.y << 1u) << (31u - by));
    let high = a.y >> by;
    return select(vec2(low, high), vec2(high, 0u), (b & 32u) != 0u);
}

fn shra64(a: vec2<u32>, b: u32) -> vec2<u32> {
    let by = b & 31u;
    let low = (a.x >> by) | ((a.y << 1u) << (31u - by));
    let high = shra32(a.y, by);
    return select(vec2(low, high), vec2(high, sign_mask(a.y)), (b & 32u) != 0u);
}

fn rotl64(a: vec2<u32>, b: u32) -> vec2<u32> {
    let by = b & 31u;
    let v = select(a, a.yx, (b & 32u) != 0u);
    return (v << vec2(by)) | ((v.yx >> vec2(1u)) >> vec2(31u - by));
}

fn rotr64(a: vec2<u32>, b: u32) -> vec2<u32> {
    return rotl64(a, 0u - b);
}

fn mul64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2(a.x * b.x, mul_high(a.x, b.x) + a.x * b.y + a.y * b.x);
}

fn add64c(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let sum = add64(a, b);
    return vec4(sum, select(0u, 1u, less64(sum, a)), 0u);
}

fn sub64c(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let borrow = select(0u, 0xffffffffu, less64(a, b));
    return vec4(sub64(a, b), borrow, borrow);
}

fn mulu64c(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let p0 = a.x * b.x;
    let p1 = add32c(mul_high(a.x, b.x), a.x * b.y);
    let p2 = add32c(p1.x, a.y * b.x);
    let q1 = add32c(mul_high(a.x, b.y), p1.y + p2.y);
    let q2 = add32c(q1.x, mul_high(a.y, b.x));
    let q3 = add32c(q2.x, a.y * b.y);
    return vec4(p0, p2.x, q3.x, mul_high(a.y, b.y) + q1.y + q2.y + q3.y);
}

fn mulsu64c(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let product = mulu64c(a, b);
    return vec4(product.xy, sub64(product.zw, b & vec2(sign_mask(a.y))));
}

fn mul64c(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let product = mulsu64c(a, b);
    return vec4(product.xy, sub64(product.zw, a & vec2(sign_mask(b.y))));
}

// BLAKE2b, one compression at a time (RFC 7693), on the rows of rows_u64.wgsl or rows_halves.wgsl.
//
// Straight-line code: which message word goes where is known, so that all of them are registers.

// A chaining value.
struct Blake2b {
    a: Row,
    b: Row,
}

// 128 bytes of a message: two words of 64 bits in each vector.
struct Blake2bBlock {
    m0: vec4<u32>,
    m1: vec4<u32>,
    m2: vec4<u32>,
    m3: vec4<u32>,
    m4: vec4<u32>,
    m5: vec4<u32>,
    m6: vec4<u32>,
    m7: vec4<u32>,
}

// 64 bytes.
struct Digest {
    d0: vec4<u32>,
    d1: vec4<u32>,
    d2: vec4<u32>,
    d3: vec4<u32>,
}

fn blake2b_iv_a() -> Row {
    return row_from_halves(
        vec4(0xf3bcc908u, 0x84caa73bu, 0xfe94f82bu, 0x5f1d36f1u),
        vec4(0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au),
    );
}

fn blake2b_iv_b() -> Row {
    return row_from_halves(
        vec4(0xade682d1u, 0x2b3e6c1fu, 0xfb41bd6bu, 0x137e2179u),
        vec4(0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u),
    );
}

// The start, for a digest of so many bytes and no key.
fn blake2b_new(digest_bytes: u32) -> Blake2b {
    let parameters = row_from_halves(vec4(0x01010000u ^ digest_bytes, 0u, 0u, 0u), vec4(0u));
    return Blake2b(row_xor(blake2b_iv_a(), parameters), blake2b_iv_b());
}

struct Blake2bRows {
    a: Row,
    b: Row,
    c: Row,
    d: Row,
}

// Mixes all four columns with two message words each.
fn blake2b_mix(v: Blake2bRows, x: Row, y: Row) -> Blake2bRows {
    var a = v.a;
    var b = v.b;
    var c = v.c;
    var d = v.d;
    a = row_add(row_add(a, b), x);
    d = rotate_right_32(row_xor(d, a));
    c = row_add(c, d);
    b = rotate_right_24(row_xor(b, c));
    a = row_add(row_add(a, b), y);
    d = rotate_right_16(row_xor(d, a));
    c = row_add(c, d);
    b = rotate_right_63(row_xor(b, c));
    return Blake2bRows(a, b, c, d);
}

// A round: columns with x and y, diagonals with z and w.
fn blake2b_round(v: Blake2bRows, x: Row, y: Row, z: Row, w: Row) -> Blake2bRows {
    let columns = blake2b_mix(v, x, y);
    let turned = Blake2bRows(columns.a, turn_1(columns.b), turn_2(columns.c), turn_3(columns.d));
    let diagonals = blake2b_mix(turned, z, w);
    return Blake2bRows(diagonals.a, turn_3(diagonals.b), turn_2(diagonals.c), turn_1(diagonals.d));
}

// Takes in a block; `bytes` is the message's length up to its end. The last block counts as such.
fn blake2b_compress(h: Blake2b, block: Blake2bBlock, bytes: u32, last: bool) -> Blake2b {
    let w0 = word(block.m0.xy);
    let w1 = word(block.m0.zw);
    let w2 = word(block.m1.xy);
    let w3 = word(block.m1.zw);
    let w4 = word(block.m2.xy);
    let w5 = word(block.m2.zw);
    let w6 = word(block.m3.xy);
    let w7 = word(block.m3.zw);
    let w8 = word(block.m4.xy);
    let w9 = word(block.m4.zw);
    let w10 = word(block.m5.xy);
    let w11 = word(block.m5.zw);
    let w12 = word(block.m6.xy);
    let w13 = word(block.m6.zw);
    let w14 = word(block.m7.xy);
    let w15 = word(block.m7.zw);
    let end = select(0u, 0xffffffffu, last);
    let count = row_from_halves(vec4(bytes, 0u, end, 0u), vec4(0u, 0u, end, 0u));
    var v = Blake2bRows(h.a, h.b, blake2b_iv_a(), row_xor(blake2b_iv_b(), count));
    v = blake2b_round(v, row(w0, w2, w4, w6), row(w1, w3, w5, w7), row(w8, w10, w12, w14), row(w9, w11, w13, w15));
    v = blake2b_round(v, row(w14, w4, w9, w13), row(w10, w8, w15, w6), row(w1, w0, w11, w5), row(w12, w2, w7, w3));
    v = blake2b_round(v, row(w11, w12, w5, w15), row(w8, w0, w2, w13), row(w10, w3, w7, w9), row(w14, w6, w1, w4));
    v = blake2b_round(v, row(w7, w3, w13, w11), row(w9, w1, w12, w14), row(w2, w5, w4, w15), row(w6, w10, w0, w8));
    v = blake2b_round(v, row(w9, w5, w2, w10), row(w0, w7, w4, w15), row(w14, w11, w6, w3), row(w1, w12, w8, w13));
    v = blake2b_round(v, row(w2, w6, w0, w8), row(w12, w10, w11, w3), row(w4, w7, w15, w1), row(w13, w5, w14, w9));
    v = blake2b_round(v, row(w12, w1, w14, w4), row(w5, w15, w13, w10), row(w0, w6, w9, w8), row(w7, w3, w2, w11));
    v = blake2b_round(v, row(w13, w7, w12, w3), row(w11, w14, w1, w9), row(w5, w15, w8, w2), row(w0, w4, w6, w10));
    v = blake2b_round(v, row(w6, w14, w11, w0), row(w15, w9, w3, w8), row(w12, w13, w1, w10), row(w2, w7, w4, w5));
    v = blake2b_round(v, row(w10, w8, w7, w1), row(w2, w4, w6, w5), row(w15, w9, w3, w13), row(w11, w14, w12, w0));
    v = blake2b_round(v, row(w0, w2, w4, w6), row(w1, w3, w5, w7), row(w8, w10, w12, w14), row(w9, w11, w13, w15));
    v = blake2b_round(v, row(w14, w4, w9, w13), row(w10, w8, w15, w6), row(w1, w0, w11, w5), row(w12, w2, w7, w3));
    return Blake2b(row_xor(h.a, row_xor(v.a, v.c)), row_xor(h.b, row_xor(v.b, v.d)));
}

fn blake2b_digest(h: Blake2b) -> Digest {
    let a_low = row_low(h.a);
    let a_high = row_high(h.a);
    let b_low = row_low(h.b);
    let b_high = row_high(h.b);
    return Digest(
        vec4(a_low.x, a_high.x, a_low.y, a_high.y),
        vec4(a_low.z, a_high.z, a_low.w, a_high.w),
        vec4(b_low.x, b_high.x, b_low.y, b_high.y),
        vec4(b_low.z, b_high.z, b_low.w, b_high.w),
    );
}

// Poly1305 (RFC 8439), one block of 16 bytes at a time, in ten limbs of 13 bits: ten products, the message added to the
// hash, stay below 32 bits. Its twin: poly1305_u64.wgsl.

// What is multiplied by: r, clamped, and five times r for what goes round the modulus.
struct PolyKey {
    r0: u32,
    r1: u32,
    r2: u32,
    r3: u32,
    r4: u32,
    r5: u32,
    r6: u32,
    r7: u32,
    r8: u32,
    r9: u32,
    s1: u32,
    s2: u32,
    s3: u32,
    s4: u32,
    s5: u32,
    s6: u32,
    s7: u32,
    s8: u32,
    s9: u32,
}

// The hash so far. Limbs may be slightly longer than 13 bits.
struct PolyHash {
    h0: u32,
    h1: u32,
    h2: u32,
    h3: u32,
    h4: u32,
    h5: u32,
    h6: u32,
    h7: u32,
    h8: u32,
    h9: u32,
}

fn poly1305_new() -> PolyHash {
    return PolyHash(0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u);
}

// The key's first half.
fn poly1305_key(half: vec4<u32>) -> PolyKey {
    let r = half & vec4(0x0fffffffu, 0x0ffffffcu, 0x0ffffffcu, 0x0ffffffcu);
    let r0 = r.x & 0x1fffu;
    let r1 = (r.x >> 13u) & 0x1fffu;
    let r2 = ((r.x >> 26u) | (r.y << 6u)) & 0x1fffu;
    let r3 = (r.y >> 7u) & 0x1fffu;
    let r4 = ((r.y >> 20u) | (r.z << 12u)) & 0x1fffu;
    let r5 = (r.z >> 1u) & 0x1fffu;
    let r6 = (r.z >> 14u) & 0x1fffu;
    let r7 = ((r.z >> 27u) | (r.w << 5u)) & 0x1fffu;
    let r8 = (r.w >> 8u) & 0x1fffu;
    let r9 = r.w >> 21u;
    return PolyKey(
        r0, r1, r2, r3, r4, r5, r6, r7, r8, r9,
        5u * r1, 5u * r2, 5u * r3, 5u * r4, 5u * r5, 5u * r6, 5u * r7, 5u * r8, 5u * r9,
    );
}

// Takes in a whole block.
fn poly1305_block(hash: PolyHash, key: PolyKey, block: vec4<u32>) -> PolyHash {
    let t0 = hash.h0 + (block.x & 0x1fffu);
    let t1 = hash.h1 + ((block.x >> 13u) & 0x1fffu);
    let t2 = hash.h2 + (((block.x >> 26u) | (block.y << 6u)) & 0x1fffu);
    let t3 = hash.h3 + ((block.y >> 7u) & 0x1fffu);
    let t4 = hash.h4 + (((block.y >> 20u) | (block.z << 12u)) & 0x1fffu);
    let t5 = hash.h5 + ((block.z >> 1u) & 0x1fffu);
    let t6 = hash.h6 + ((block.z >> 14u) & 0x1fffu);
    let t7 = hash.h7 + (((block.z >> 27u) | (block.w << 5u)) & 0x1fffu);
    let t8 = hash.h8 + ((block.w >> 8u) & 0x1fffu);
    let t9 = hash.h9 + ((block.w >> 21u) | 0x800u);
    // Limbs of 13 bits and a little: r's are so far from all ones that ten products of these fit.
    let h0 = (t0 & 0x1fffu) + 5u * (t9 >> 13u);
    let h1 = (t1 & 0x1fffu) + (t0 >> 13u);
    let h2 = (t2 & 0x1fffu) + (t1 >> 13u);
    let h3 = (t3 & 0x1fffu) + (t2 >> 13u);
    let h4 = (t4 & 0x1fffu) + (t3 >> 13u);
    let h5 = (t5 & 0x1fffu) + (t4 >> 13u);
    let h6 = (t6 & 0x1fffu) + (t5 >> 13u);
    let h7 = (t7 & 0x1fffu) + (t6 >> 13u);
    let h8 = (t8 & 0x1fffu) + (t7 >> 13u);
    let h9 = (t9 & 0x1fffu) + (t8 >> 13u);
    let d0 = h0 * key.r0 + h1 * key.s9 + h2 * key.s8 + h3 * key.s7 + h4 * key.s6
        + h5 * key.s5 + h6 * key.s4 + h7 * key.s3 + h8 * key.s2 + h9 * key.s1;
    let d1 = h0 * key.r1 + h1 * key.r0 + h2 * key.s9 + h3 * key.s8 + h4 * key.s7
        + h5 * key.s6 + h6 * key.s5 + h7 * key.s4 + h8 * key.s3 + h9 * key.s2
        + (d0 >> 13u);
    let d2 = h0 * key.r2 + h1 * key.r1 + h2 * key.r0 + h3 * key.s9 + h4 * key.s8
        + h5 * key.s7 + h6 * key.s6 + h7 * key.s5 + h8 * key.s4 + h9 * key.s3
        + (d1 >> 13u);
    let d3 = h0 * key.r3 + h1 * key.r2 + h2 * key.r1 + h3 * key.r0 + h4 * key.s9
        + h5 * key.s8 + h6 * key.s7 + h7 * key.s6 + h8 * key.s5 + h9 * key.s4
        + (d2 >> 13u);
    let d4 = h0 * key.r4 + h1 * key.r3 + h2 * key.r2 + h3 * key.r1 + h4 * key.r0
        + h5 * key.s9 + h6 * key.s8 + h7 * key.s7 + h8 * key.s6 + h9 * key.s5
        + (d3 >> 13u);
    let d5 = h0 * key.r5 + h1 * key.r4 + h2 * key.r3 + h3 * key.r2 + h4 * key.r1
        + h5 * key.r0 + h6 * key.s9 + h7 * key.s8 + h8 * key.s7 + h9 * key.s6
        + (d4 >> 13u);
    let d6 = h0 * key.r6 + h1 * key.r5 + h2 * key.r4 + h3 * key.r3 + h4 * key.r2
        + h5 * key.r1 + h6 * key.r0 + h7 * key.s9 + h8 * key.s8 + h9 * key.s7
        + (d5 >> 13u);
    let d7 = h0 * key.r7 + h1 * key.r6 + h2 * key.r5 + h3 * key.r4 + h4 * key.r3
        + h5 * key.r2 + h6 * key.r1 + h7 * key.r0 + h8 * key.s9 + h9 * key.s8
        + (d6 >> 13u);
    let d8 = h0 * key.r8 + h1 * key.r7 + h2 * key.r6 + h3 * key.r5 + h4 * key.r4
        + h5 * key.r3 + h6 * key.r2 + h7 * key.r1 + h8 * key.r0 + h9 * key.s9
        + (d7 >> 13u);
    let d9 = h0 * key.r9 + h1 * key.r8 + h2 * key.r7 + h3 * key.r6 + h4 * key.r5
        + h5 * key.r4 + h6 * key.r3 + h7 * key.r2 + h8 * key.r1 + h9 * key.r0
        + (d8 >> 13u);
    let first = (d0 & 0x1fffu) + 5u * (d9 >> 13u);
    return PolyHash(
        first & 0x1fffu,
        (d1 & 0x1fffu) + (first >> 13u),
        d2 & 0x1fffu, d3 & 0x1fffu, d4 & 0x1fffu, d5 & 0x1fffu, d6 & 0x1fffu, d7 & 0x1fffu, d8 & 0x1fffu, d9 & 0x1fffu,
    );
}

// The tag; `half` is the key's second half.
fn poly1305_tag(hash: PolyHash, half: vec4<u32>) -> vec4<u32> {
    // Twice round: the second carry out of the top is nothing or followed by nothing.
    let c0 = hash.h0;
    let c1 = hash.h1 + (c0 >> 13u);
    let c2 = hash.h2 + (c1 >> 13u);
    let c3 = hash.h3 + (c2 >> 13u);
    let c4 = hash.h4 + (c3 >> 13u);
    let c5 = hash.h5 + (c4 >> 13u);
    let c6 = hash.h6 + (c5 >> 13u);
    let c7 = hash.h7 + (c6 >> 13u);
    let c8 = hash.h8 + (c7 >> 13u);
    let c9 = hash.h9 + (c8 >> 13u);
    let e0 = (c0 & 0x1fffu) + 5u * (c9 >> 13u);
    let e1 = (c1 & 0x1fffu) + (e0 >> 13u);
    let e2 = (c2 & 0x1fffu) + (e1 >> 13u);
    let e3 = (c3 & 0x1fffu) + (e2 >> 13u);
    let e4 = (c4 & 0x1fffu) + (e3 >> 13u);
    let e5 = (c5 & 0x1fffu) + (e4 >> 13u);
    let e6 = (c6 & 0x1fffu) + (e5 >> 13u);
    let e7 = (c7 & 0x1fffu) + (e6 >> 13u);
    let e8 = (c8 & 0x1fffu) + (e7 >> 13u);
    let e9 = (c9 & 0x1fffu) + (e8 >> 13u);
    // Below 2^130 now; less the modulus, if it is not below that.
    let g0 = (e0 & 0x1fffu) + 5u;
    let g1 = (e1 & 0x1fffu) + (g0 >> 13u);
    let g2 = (e2 & 0x1fffu) + (g1 >> 13u);
    let g3 = (e3 & 0x1fffu) + (g2 >> 13u);
    let g4 = (e4 & 0x1fffu) + (g3 >> 13u);
    let g5 = (e5 & 0x1fffu) + (g4 >> 13u);
    let g6 = (e6 & 0x1fffu) + (g5 >> 13u);
    let g7 = (e7 & 0x1fffu) + (g6 >> 13u);
    let g8 = (e8 & 0x1fffu) + (g7 >> 13u);
    let g9 = (e9 & 0x1fffu) + (g8 >> 13u);
    let reduce = g9 >= 0x2000u;
    let f0 = select(e0, g0, reduce) & 0x1fffu;
    let f1 = select(e1, g1, reduce) & 0x1fffu;
    let f2 = select(e2, g2, reduce) & 0x1fffu;
    let f3 = select(e3, g3, reduce) & 0x1fffu;
    let f4 = select(e4, g4, reduce) & 0x1fffu;
    let f5 = select(e5, g5, reduce) & 0x1fffu;
    let f6 = select(e6, g6, reduce) & 0x1fffu;
    let f7 = select(e7, g7, reduce) & 0x1fffu;
    let f8 = select(e8, g8, reduce) & 0x1fffu;
    let f9 = select(e9, g9, reduce) & 0x1fffu;
    let number = vec4(
        f0 | (f1 << 13u) | (f2 << 26u),
        (f2 >> 6u) | (f3 << 7u) | (f4 << 20u),
        (f4 >> 12u) | (f5 << 1u) | (f6 << 14u) | (f7 << 27u),
        (f7 >> 5u) | (f8 << 8u) | (f9 << 21u),
    );
    return poly1305_add(number, half);
}

// The sum of two numbers of 128 bits, modulo 2^128.
fn poly1305_add(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let x = a.x + b.x;
    let y1 = a.y + b.y;
    let y = y1 + u32(x < a.x);
    let z1 = a.z + b.z;
    let z = z1 + u32(y1 < a.y || y < y1);
    let w = a.w + b.w + u32(z1 < a.z || z < z1);
    return vec4(x, y, z, w);
}

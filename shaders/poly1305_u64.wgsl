// Poly1305 (RFC 8439), one block of 16 bytes at a time, in limbs of 32 bits with products of 64. Its twin:
// poly1305_u32.wgsl.

// What is multiplied by: r, clamped, and its upper limbs times 5/4 for what goes round the modulus (they are multiples
// of 4: 2^130 is 5, so 2^128 · 4x is 5x).
struct PolyKey {
    r: vec4<u32>,
    s: vec4<u32>,
}

// The hash so far, partly reduced: `top` counts 2^128 and is less than 8.
struct PolyHash {
    h: vec4<u32>,
    top: u32,
}

fn poly1305_new() -> PolyHash {
    return PolyHash(vec4(0u), 0u);
}

// The key's first half.
fn poly1305_key(half: vec4<u32>) -> PolyKey {
    let r = half & vec4(0x0fffffffu, 0x0ffffffcu, 0x0ffffffcu, 0x0ffffffcu);
    return PolyKey(r, r + (r >> vec4(2u)));
}

// Takes in a whole block.
fn poly1305_block(hash: PolyHash, key: PolyKey, block: vec4<u32>) -> PolyHash {
    let t0 = u64(hash.h.x) + u64(block.x);
    let t1 = u64(hash.h.y) + u64(block.y) + (t0 >> 32u);
    let t2 = u64(hash.h.z) + u64(block.z) + (t1 >> 32u);
    let t3 = u64(hash.h.w) + u64(block.w) + (t2 >> 32u);
    let h0 = u64(u32(t0));
    let h1 = u64(u32(t1));
    let h2 = u64(u32(t2));
    let h3 = u64(u32(t3));
    let h4 = hash.top + 1u + u32(t3 >> 32u);

    let r0 = u64(key.r.x);
    let r1 = u64(key.r.y);
    let r2 = u64(key.r.z);
    let r3 = u64(key.r.w);
    let s1 = u64(key.s.y);
    let s2 = u64(key.s.z);
    let s3 = u64(key.s.w);

    // r and s are below 2^29: sums of five products fit, and so does what h4 is multiplied with.
    let d0 = h0 * r0 + h1 * s3 + h2 * s2 + h3 * s1;
    let d1 = h0 * r1 + h1 * r0 + h2 * s3 + h3 * s2 + u64(h4 * key.s.y) + (d0 >> 32u);
    let d2 = h0 * r2 + h1 * r1 + h2 * r0 + h3 * s3 + u64(h4 * key.s.z) + (d1 >> 32u);
    let d3 = h0 * r3 + h1 * r2 + h2 * r1 + h3 * r0 + u64(h4 * key.s.w) + (d2 >> 32u);
    let d4 = h4 * key.r.x + u32(d3 >> 32u);

    // 2^130 is 5, and d4 counts 2^128.
    let e0 = u64(u32(d0)) + u64((d4 >> 2u) + (d4 & 0xfffffffcu));
    let e1 = u64(u32(d1)) + (e0 >> 32u);
    let e2 = u64(u32(d2)) + (e1 >> 32u);
    let e3 = u64(u32(d3)) + (e2 >> 32u);
    return PolyHash(vec4(u32(e0), u32(e1), u32(e2), u32(e3)), (d4 & 3u) + u32(e3 >> 32u));
}

// The tag; `half` is the key's second half.
fn poly1305_tag(hash: PolyHash, half: vec4<u32>) -> vec4<u32> {
    // Less the modulus, if it is not below that.
    let g0 = u64(hash.h.x) + 5lu;
    let g1 = u64(hash.h.y) + (g0 >> 32u);
    let g2 = u64(hash.h.z) + (g1 >> 32u);
    let g3 = u64(hash.h.w) + (g2 >> 32u);
    let reduce = hash.top + u32(g3 >> 32u) >= 4u;
    let number = select(hash.h, vec4(u32(g0), u32(g1), u32(g2), u32(g3)), reduce);

    let t0 = u64(number.x) + u64(half.x);
    let t1 = u64(number.y) + u64(half.y) + (t0 >> 32u);
    let t2 = u64(number.z) + u64(half.z) + (t1 >> 32u);
    let t3 = number.w + half.w + u32(t2 >> 32u);
    return vec4(u32(t0), u32(t1), u32(t2), t3);
}

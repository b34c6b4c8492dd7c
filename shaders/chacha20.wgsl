// ChaCha20 (RFC 8439), one block at a time. The four rows of its state are vectors: a quarter round on all columns at
// once reads like the paper, and compilers make scalars of it.
//
// The ten double rounds, `chacha20_rounds`, are in chacha20_straight.wgsl or chacha20_loop.wgsl.

// 64 bytes of keystream.
struct Keystream {
    k0: vec4<u32>,
    k1: vec4<u32>,
    k2: vec4<u32>,
    k3: vec4<u32>,
}

fn chacha20_quarters(v: Keystream) -> Keystream {
    var a = v.k0;
    var b = v.k1;
    var c = v.k2;
    var d = v.k3;
    a += b;
    d ^= a;
    d = (d << vec4(16u)) | (d >> vec4(16u));
    c += d;
    b ^= c;
    b = (b << vec4(12u)) | (b >> vec4(20u));
    a += b;
    d ^= a;
    d = (d << vec4(8u)) | (d >> vec4(24u));
    c += d;
    b ^= c;
    b = (b << vec4(7u)) | (b >> vec4(25u));
    return Keystream(a, b, c, d);
}

fn chacha20_double_round(v: Keystream) -> Keystream {
    let columns = chacha20_quarters(v);
    let turned = Keystream(columns.k0, columns.k1.yzwx, columns.k2.zwxy, columns.k3.wxyz);
    let diagonals = chacha20_quarters(turned);
    return Keystream(diagonals.k0, diagonals.k1.wxyz, diagonals.k2.zwxy, diagonals.k3.yzwx);
}

// A block: both halves of the key; the counter, and the nonce's three words behind it.
fn chacha20(key0: vec4<u32>, key1: vec4<u32>, counter_nonce: vec4<u32>) -> Keystream {
    let initial = Keystream(
        vec4(0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u),
        key0,
        key1,
        counter_nonce,
    );
    let v = chacha20_rounds(initial);
    return Keystream(v.k0 + initial.k0, v.k1 + initial.k1, v.k2 + initial.k2, v.k3 + initial.k3);
}

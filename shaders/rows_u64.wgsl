// Words of 64 bits, and rows of four of them, for devices with 64-bit integers. Its twin: rows_halves.wgsl.

alias Word = u64;
alias Row = vec4<u64>;

fn word(low_high: vec2<u32>) -> Word {
    return u64(low_high.x) | (u64(low_high.y) << 32u);
}

fn row(w0: Word, w1: Word, w2: Word, w3: Word) -> Row {
    return vec4<u64>(w0, w1, w2, w3);
}

fn row_from_halves(low: vec4<u32>, high: vec4<u32>) -> Row {
    return vec4<u64>(low) | (vec4<u64>(high) << vec4(32u));
}

fn row_low(a: Row) -> vec4<u32> {
    return vec4<u32>(a);
}

fn row_high(a: Row) -> vec4<u32> {
    return vec4<u32>(a >> vec4(32u));
}

fn row_add(a: Row, b: Row) -> Row {
    return a + b;
}

fn row_xor(a: Row, b: Row) -> Row {
    return a ^ b;
}

fn rotate_right_32(a: Row) -> Row {
    return (a >> vec4(32u)) | (a << vec4(32u));
}

fn rotate_right_24(a: Row) -> Row {
    return (a >> vec4(24u)) | (a << vec4(40u));
}

fn rotate_right_16(a: Row) -> Row {
    return (a >> vec4(16u)) | (a << vec4(48u));
}

fn rotate_right_63(a: Row) -> Row {
    return (a >> vec4(63u)) | (a << vec4(1u));
}

// The row's words, moved down by one, two and three places.

fn turn_1(a: Row) -> Row {
    return a.yzwx;
}

fn turn_2(a: Row) -> Row {
    return a.zwxy;
}

fn turn_3(a: Row) -> Row {
    return a.wxyz;
}

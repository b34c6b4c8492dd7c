// Words of 64 bits, and rows of four of them, made of 32-bit halves. Its twin: rows_u64.wgsl. Behind it belongs a
// `row_add`: rows_halves_add_u32.wgsl, or rows_halves_add_u64.wgsl.

alias Word = vec2<u32>;

struct Row {
    low: vec4<u32>,
    high: vec4<u32>,
}

fn word(low_high: vec2<u32>) -> Word {
    return low_high;
}

fn row(w0: Word, w1: Word, w2: Word, w3: Word) -> Row {
    return Row(vec4(w0.x, w1.x, w2.x, w3.x), vec4(w0.y, w1.y, w2.y, w3.y));
}

fn row_from_halves(low: vec4<u32>, high: vec4<u32>) -> Row {
    return Row(low, high);
}

fn row_low(a: Row) -> vec4<u32> {
    return a.low;
}

fn row_high(a: Row) -> vec4<u32> {
    return a.high;
}

fn row_xor(a: Row, b: Row) -> Row {
    return Row(a.low ^ b.low, a.high ^ b.high);
}

fn rotate_right_32(a: Row) -> Row {
    return Row(a.high, a.low);
}

fn rotate_right_24(a: Row) -> Row {
    return Row(
        (a.low >> vec4(24u)) | (a.high << vec4(8u)),
        (a.high >> vec4(24u)) | (a.low << vec4(8u)),
    );
}

fn rotate_right_16(a: Row) -> Row {
    return Row(
        (a.low >> vec4(16u)) | (a.high << vec4(16u)),
        (a.high >> vec4(16u)) | (a.low << vec4(16u)),
    );
}

fn rotate_right_63(a: Row) -> Row {
    return Row(
        (a.low << vec4(1u)) | (a.high >> vec4(31u)),
        (a.high << vec4(1u)) | (a.low >> vec4(31u)),
    );
}

// The row's words, moved down by one, two and three places.

fn turn_1(a: Row) -> Row {
    return Row(a.low.yzwx, a.high.yzwx);
}

fn turn_2(a: Row) -> Row {
    return Row(a.low.zwxy, a.high.zwxy);
}

fn turn_3(a: Row) -> Row {
    return Row(a.low.wxyz, a.high.wxyz);
}

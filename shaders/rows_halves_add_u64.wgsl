// Adds rows of halves as integers of 64 bits.

fn row_add(a: Row, b: Row) -> Row {
    let x = vec4<u64>(a.low) | (vec4<u64>(a.high) << vec4(32u));
    let y = vec4<u64>(b.low) | (vec4<u64>(b.high) << vec4(32u));
    let sum = x + y;
    return Row(vec4<u32>(sum), vec4<u32>(sum >> vec4(32u)));
}

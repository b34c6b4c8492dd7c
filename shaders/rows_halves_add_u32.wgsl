// Adds rows of halves without integers of 64 bits.

fn row_add(a: Row, b: Row) -> Row {
    let low = a.low + b.low;
    return Row(low, a.high + b.high + select(vec4(0u), vec4(1u), low < a.low));
}

// The upper word of a product, for devices with 64-bit integers. Its twin: mul_high_u32.wgsl.

fn mul_high(a: u32, b: u32) -> u32 {
    return u32((u64(a) * u64(b)) >> 32u);
}

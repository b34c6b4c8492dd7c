// ChaCha20's twenty rounds as a loop: a fifth of the code.

fn chacha20_rounds(start: Keystream) -> Keystream {
    var v = start;
    for (var round = 0u; round < 20u; round += 4u) {
        v = chacha20_double_round(chacha20_double_round(v));
    }
    return v;
}

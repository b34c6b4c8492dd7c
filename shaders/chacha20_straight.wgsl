// ChaCha20's twenty rounds as straight-line code.

fn chacha20_rounds(start: Keystream) -> Keystream {
    var v = start;
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    v = chacha20_double_round(v);
    return v;
}

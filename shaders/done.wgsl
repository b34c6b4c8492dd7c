// Says that a submission was carried out to its end: hands back the number that was sent along with it.

@group(0) @binding(0) var<storage, read> sent: array<u32>;
@group(0) @binding(1) var<storage, read_write> done: array<u32>;

@compute @workgroup_size(1)
fn main() {
    done[0] = sent[0];
    done[1] = sent[1];
}

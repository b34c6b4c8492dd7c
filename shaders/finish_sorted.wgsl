// Threads take the states of their workgroup ordered by what is to be done with them, so that neighbours take equally
// long. The alternative is finish_unsorted in passes/finish.rs.

var<workgroup> classes: array<u32, LANES>;
var<workgroup> order: array<u32, LANES>;

// Which of the workgroup's states, which begin at `first_state`, a thread takes. There are `count` of them; other threads
// get numbers past that.
fn place(first_state: u32, count: u32, thread: u32) -> u32 {
    var class_of_state = 0xffffffu;
    if thread < count {
        let data = fuzz(executed[(first_state + thread) * STATE + 1u].x);
        class_of_state = select(0u, 128u, decrypts(data)) + message_length(data);
    }
    // The thread's number makes all of them differ.
    let mine = (class_of_state << 8u) | thread;
    classes[thread] = mine;
    workgroupBarrier();
    var before = 0u;
    for (var i = 0u; i < LANES; i++) {
        before += select(0u, 1u, classes[i] < mine);
    }
    order[before] = thread;
    workgroupBarrier();
    return order[thread];
}

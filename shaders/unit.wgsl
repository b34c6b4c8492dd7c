// Units of work on a table, for the passes that run programs and that make items of what they leave.

struct Immediates {
    first_unit: u32,
    units: u32,
}

var<immediate> immediates: Immediates;

struct Unit {
    // Where the program is, in vectors.
    program: u32,
    slot: u32,
    // Items first to first + count are the lanes, and copies of them UNIT_LANES on.
    first: u32,
    count: u32,
    copies: u32,
    // Rows that the program needs.
    rows: u32,
    // Where the unit's part of the scratch memory begins, in words, and how many rows of it a workgroup has.
    scratch: u32,
    scratch_rows: u32,
}

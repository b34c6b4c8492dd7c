//! Memory for a table in large pages: items are read at random, and where each lies on a page of its own the processor
//! has to look an address up nearly every time.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use crate::item::{Item, TABLE_ITEMS};

/// Room for the items of a table, in pages of 2 MiB if the system has them for those who ask.
pub(crate) struct TableMemory(Box<[Pages]>);

/// The items of a table, where a large page begins.
#[repr(C, align(0x20_0000))]
struct Pages([Item; TABLE_ITEMS]);

impl TableMemory {
    /// A table of zeros.
    pub(crate) fn zeroed() -> Self {
        let mut one = Vec::with_capacity(1);
        let memory = &mut one.spare_capacity_mut()[..1];
        ask_for_large_pages(memory);
        // SAFETY: there is room for one, which is all items and these all bytes, for which zeros will do.
        unsafe {
            memory.as_mut_ptr().write_bytes(0, 1);
            one.set_len(1);
        }
        Self(one.into_boxed_slice())
    }
}

impl Deref for TableMemory {
    type Target = [Item];

    fn deref(&self) -> &[Item] {
        &self.0[0].0
    }
}

impl DerefMut for TableMemory {
    fn deref_mut(&mut self) -> &mut [Item] {
        &mut self.0[0].0
    }
}

/// Has to come before anything is written there, since pages that exist stay as they are. It makes no difference but in
/// speed whether the system follows it.
#[cfg(target_os = "linux")]
fn ask_for_large_pages(memory: &mut [MaybeUninit<Pages>]) {
    // SAFETY: the memory consists of whole pages, and the advice leaves their content as it is.
    unsafe { libc::madvise(memory.as_mut_ptr().cast(), size_of_val(memory), libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_memory: &mut [MaybeUninit<Pages>]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_table_is_all_zeros_where_a_large_page_begins() {
        let mut memory = TableMemory::zeroed();
        assert_eq!(memory.len(), TABLE_ITEMS);
        assert!(memory.iter().all(|item| *item == Item::ZERO));
        assert!(memory.as_ptr().addr().is_multiple_of(2 << 20));
        memory[TABLE_ITEMS - 1].0[Item::LEN - 1] = 1;
        assert_eq!(memory[TABLE_ITEMS - 1].0[Item::LEN - 1], 1);
    }
}

//! The allocator: mimalloc; counted when the benchmark asks for it.

#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(not(feature = "count-allocations"))]
pub(crate) fn metrics(_: &mut String) {}

#[cfg(feature = "count-allocations")]
pub(crate) use counting::metrics;

/// Gives free memory of this thread back to the system: all of it `at_once`, or what has not been
/// used for a while. Without it a thread that has become idle keeps what a busy hour took.
#[expect(unsafe_code, reason = "a C function without preconditions")]
pub(crate) fn give_back(at_once: bool) {
    // SAFETY: it may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(at_once) }
}

#[cfg(feature = "count-allocations")]
#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to implement; each call is passed on as it came"
)]
mod counting {
    use std::alloc::{GlobalAlloc, Layout};
    use std::fmt::Write;
    use std::sync::atomic::{AtomicU64, Ordering};

    use mimalloc::MiMalloc;

    struct Counting;

    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    // SAFETY: every method is MiMalloc's, with a count beside it.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller's promises are passed on.
            unsafe { MiMalloc.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller's promises are passed on.
            unsafe { MiMalloc.dealloc(pointer, layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller's promises are passed on.
            unsafe { MiMalloc.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller's promises are passed on.
            unsafe { MiMalloc.realloc(pointer, layout, size) }
        }
    }

    pub(crate) fn metrics(out: &mut String) {
        let count = ALLOCATIONS.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# TYPE plimsoll_allocations_total counter\nplimsoll_allocations_total {count}"
        );
    }
}

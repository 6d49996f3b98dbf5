//! Gives memory back.

/// Returns what freed models leave in the allocator to the operating system.
///
/// ONNX Runtime allocates with the C library's `malloc`, whose heaps keep freed pages for later: a server that swaps
/// models would look as if it leaked, and be killed for it. Takes a few milliseconds, so only after models were freed.
pub(super) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointers and may be called from any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

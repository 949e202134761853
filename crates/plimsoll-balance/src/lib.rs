//! Who serves this request, and whether anyone may.

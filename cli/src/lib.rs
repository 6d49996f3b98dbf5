//! The plumbline command: the stack on a laptop, offline drift tools.

//! Load generation and the measuring of server processes, for the proof of speed.
//!
//! [`closed_loop`] keeps a fixed number of connections busy and tells what came back; [`process`] starts programs and
//! reads the CPU time that they used. The programs in `src/bin/` put them together.

pub mod closed_loop;
pub mod process;
pub mod request;

//! Load generation and the measuring of server processes: the proof of speed and of losing nothing.
//!
//! A [`load::Plan`] says what to send ([`request`], [`inputs`]), when it is due ([`schedule`]) and over what
//! ([`client`]); [`load::run`] carries it out, holds every answer to what was asked ([`verdict`]) and counts ([`tally`]).
//! [`background`] goes on while something changes. [`process`] starts servers and tells what they used, [`replica`] is a
//! model server that slows down, refuses and restarts when told, [`namespace`] a network of its own for it. The programs in
//! `src/bin/` put them together.

pub mod background;
pub mod client;
pub mod constant;
pub mod exit;
pub mod inputs;
pub mod load;
pub mod namespace;
pub mod process;
pub mod proxy;
pub mod ratio;
pub mod replica;
pub mod request;
pub mod schedule;
pub mod scrape;
pub mod table;
pub mod tally;
pub mod traffic;
pub mod verdict;

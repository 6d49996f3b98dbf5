//! The worker from outside: real sockets, a real database file, a fake Gemini, and kill -9.

mod actions;
mod adversarial;
mod ask;
mod backfill;
mod command;
mod durability;
mod engines;
mod follow;
mod intake;
mod kills;
mod kubernetes;
mod pages;
mod provider;
mod secrets;
mod seeds;
mod sources;
mod spawned;
mod support;
mod triage;
mod wire;

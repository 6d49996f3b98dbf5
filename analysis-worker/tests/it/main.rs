//! The worker from outside: real sockets, a real database file, a fake Gemini, and kill -9.

mod adversarial;
mod backfill;
mod command;
mod durability;
mod engines;
mod intake;
mod kubernetes;
mod pages;
mod provider;
mod seeds;
mod sources;
mod support;
mod wire;

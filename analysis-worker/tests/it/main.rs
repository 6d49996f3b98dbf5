//! The worker from outside: real sockets, a real database file, a fake Gemini, and kill -9.

mod adversarial;
mod ask;
mod command;
mod durability;
mod intake;
mod pages;
mod provider;
mod secrets;
mod seeds;
mod sources;
mod support;
mod triage;
mod wire;

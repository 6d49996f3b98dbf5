//! Drift mathematics: profiles, windows, statistics, sequential tests; no sockets, no clock.

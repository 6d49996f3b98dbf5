"""One program per peer, run by the environment that has it. Each reads streams and writes where its detectors alarm."""

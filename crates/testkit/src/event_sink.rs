//! Receives CloudEvents and webhooks, and lets a test refuse, delay or count them.

//! Alerts and drift events in, validated reports out.

//! What every Plumbline binary shares: configuration, telemetry, admin port, serving and drain.

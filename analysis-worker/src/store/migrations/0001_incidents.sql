-- Times are milliseconds since 1970. Texts are redacted before they come here.

CREATE TABLE incident (
    id          TEXT PRIMARY KEY,
    key         TEXT NOT NULL,      -- digest of what identifies it
    kind        TEXT NOT NULL,      -- 'drift', or the name of the alert
    model       TEXT,
    title       TEXT NOT NULL,
    urgency     TEXT NOT NULL,      -- P0, P1, P2: the worst of its signals
    stage       TEXT NOT NULL,      -- received, collecting, analysing, reported, failed
    started_at  INTEGER NOT NULL,   -- begin of the first signal
    received_at INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    resolved_at INTEGER,            -- end of the last signal
    weight      INTEGER NOT NULL,   -- of the signal that tells most
    revision    INTEGER NOT NULL    -- of the newest report asked for
) STRICT;
-- One open incident per key: the next episode of the same trouble begins when the last one is resolved.
CREATE UNIQUE INDEX incident_open ON incident (key) WHERE resolved_at IS NULL;
CREATE INDEX incident_by_key ON incident (key, resolved_at);
CREATE INDEX incident_by_time ON incident (received_at);

CREATE TABLE signal (
    id           INTEGER PRIMARY KEY,
    incident_id  TEXT NOT NULL REFERENCES incident (id),
    dedup_key    TEXT NOT NULL UNIQUE,
    episode      TEXT,
    origin       TEXT NOT NULL,     -- alertmanager, drift_event
    status       TEXT NOT NULL,     -- firing, resolved
    title        TEXT NOT NULL,
    starts_at    INTEGER NOT NULL,
    ends_at      INTEGER,
    received_at  INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    times_seen   INTEGER NOT NULL,
    body         TEXT NOT NULL
) STRICT;
CREATE INDEX signal_by_incident ON signal (incident_id);
CREATE INDEX signal_by_episode ON signal (episode) WHERE episode IS NOT NULL;

CREATE TABLE job (
    incident_id TEXT NOT NULL REFERENCES incident (id),
    revision    INTEGER NOT NULL,
    state       TEXT NOT NULL,      -- queued, running, done, failed
    attempts    INTEGER NOT NULL,
    not_before  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,   -- a running job past this belongs to nobody
    created_at  INTEGER NOT NULL,
    error       TEXT,
    PRIMARY KEY (incident_id, revision)
) STRICT;
CREATE INDEX job_open ON job (created_at) WHERE state IN ('queued', 'running');

CREATE TABLE report (
    incident_id   TEXT NOT NULL REFERENCES incident (id),
    revision      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    urgency       TEXT NOT NULL,
    provider      TEXT NOT NULL,
    model         TEXT,
    outcome       TEXT NOT NULL,
    prompt_digest TEXT NOT NULL,
    prompt        TEXT,             -- what was sent, if anything was
    answer        TEXT,             -- what came back, before validation
    json          TEXT NOT NULL,
    markdown      TEXT NOT NULL,
    PRIMARY KEY (incident_id, revision)
) STRICT;

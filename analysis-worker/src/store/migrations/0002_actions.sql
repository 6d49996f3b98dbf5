-- What policy decided, what is done outside because of it, who approved it, and the log that proves all this.

ALTER TABLE incident ADD COLUMN reopened INTEGER NOT NULL DEFAULT 0;    -- times it fired again after it was over
ALTER TABLE signal ADD COLUMN revision INTEGER;    -- of the report that covers it; none: it asked for no report
UPDATE signal SET revision = 1 WHERE status = 'firing';

-- Deliveries counted when they are committed, for holding against what became of them.
CREATE TABLE ledger (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO ledger SELECT 'received', coalesce(sum(times_seen), 0) FROM signal;

CREATE TABLE decision (
    incident_id TEXT NOT NULL REFERENCES incident (id),
    revision    INTEGER NOT NULL,
    action      TEXT NOT NULL,
    verdict     TEXT NOT NULL,      -- allowed, needs_approval, held
    reasons     TEXT NOT NULL,      -- JSON list of sentences
    decided_at  INTEGER NOT NULL,
    PRIMARY KEY (incident_id, revision, action)
) STRICT;

-- The outbox: each row is one call to a service outside.
CREATE TABLE effect (
    id          INTEGER PRIMARY KEY,
    incident_id TEXT NOT NULL REFERENCES incident (id),
    revision    INTEGER NOT NULL,
    action      TEXT NOT NULL,
    lane        TEXT NOT NULL,      -- slack, github_issues, github_actions
    key         TEXT NOT NULL UNIQUE,   -- stands in what it makes outside, where it is looked for before a second try
    occasion    TEXT NOT NULL,      -- report, recovered, status
    model       TEXT,
    target      TEXT NOT NULL,      -- channel, repository, or workflow
    state       TEXT NOT NULL,      -- waiting, queued, sending, done, dead, cancelled
    uncertain   INTEGER NOT NULL,   -- 1: a try whose answer was not seen may have gone through
    attempts    INTEGER NOT NULL,
    not_before  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    tried_at    INTEGER,            -- first: nothing of it is outside from before
    updated_at  INTEGER NOT NULL,
    receipt     TEXT,               -- JSON: where what it made is
    error       TEXT
) STRICT;
CREATE INDEX effect_open ON effect (lane, id) WHERE state IN ('queued', 'sending');
CREATE INDEX effect_by_incident ON effect (incident_id, lane);
CREATE INDEX effect_by_model ON effect (action, created_at);

CREATE TABLE approval (
    effect_id   INTEGER PRIMARY KEY REFERENCES effect (id),
    incident_id TEXT NOT NULL REFERENCES incident (id),
    revision    INTEGER NOT NULL,
    digest      TEXT NOT NULL,      -- of the action that was shown to whoever decides
    state       TEXT NOT NULL,      -- waiting, approved, rejected, expired, superseded
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    decided_at  INTEGER,
    actor       TEXT
) STRICT;
CREATE INDEX approval_by_state ON approval (state, expires_at);

CREATE TABLE verdict (
    incident_id TEXT NOT NULL REFERENCES incident (id),
    revision    INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    verdict     TEXT NOT NULL,      -- useful, wrong_cause
    given_at    INTEGER NOT NULL,
    PRIMARY KEY (incident_id, revision, actor)
) STRICT;

-- Each entry's hash covers the one before: none can be changed, dropped or put between others unseen.
CREATE TABLE audit (
    seq      INTEGER PRIMARY KEY,
    entry    TEXT NOT NULL,         -- JSON, byte for byte what the hash covers
    previous TEXT NOT NULL,
    hash     TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'audit entries are not changed'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'audit entries are not deleted'); END;

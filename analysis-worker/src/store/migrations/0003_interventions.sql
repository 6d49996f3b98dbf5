-- What was done about incidents, and what their signals did then.

CREATE TABLE intervention (
    id          INTEGER PRIMARY KEY,
    incident_id TEXT NOT NULL REFERENCES incident (id),
    kind        TEXT NOT NULL,      -- retrain, rollout, rollback, fix; none: the incident ended without any
    actor       TEXT NOT NULL,
    note        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    before      TEXT NOT NULL,      -- measures when it was done, JSON
    after       TEXT,               -- and when it was judged
    outcome     TEXT NOT NULL,      -- watching, recovered, persisted
    judged_at   INTEGER,
    UNIQUE (incident_id, kind, at)
) STRICT;
CREATE INDEX intervention_watched ON intervention (id) WHERE outcome = 'watching';
CREATE INDEX incident_by_kind ON incident (kind, started_at);

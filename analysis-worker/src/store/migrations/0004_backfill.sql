CREATE TABLE heartbeat (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    beat_at      INTEGER NOT NULL,  -- when the worker last could commit what it is told
    missed_since INTEGER            -- since when alerts may have been missed that were not asked for yet
) STRICT;

-- The same alert, told by Alertmanager and found in Prometheus. Ten thousand of one name differ in these two labels.
CREATE INDEX signal_by_alert ON signal (
    json_extract(body, '$.labels.alertname'), json_extract(body, '$.labels.instance'), json_extract(body, '$.labels.pod')
) WHERE origin IN ('alertmanager', 'backfilled');

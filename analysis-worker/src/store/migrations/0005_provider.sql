-- What has to outlive a restart and is nobody's row: how much a provider was asked, and until when it is not.
CREATE TABLE state (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL         -- JSON
) STRICT;

-- Answers of a provider by what it was asked; redacted before they come here.
CREATE TABLE answer (
    key        TEXT PRIMARY KEY, -- digest of provider, model, prompt and schema
    answer     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX answer_by_time ON answer (created_at);

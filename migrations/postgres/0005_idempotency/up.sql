-- What a submission was answered with, for its repetition. Kept for a day.
CREATE TABLE idempotency_keys (
    key        TEXT NOT NULL PRIMARY KEY,
    request    TEXT NOT NULL,
    jobs       TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

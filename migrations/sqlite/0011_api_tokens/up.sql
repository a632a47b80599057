-- Who may do what over the API with which secret. Of the secret there is only the SHA-256, in hexadecimal digits. A token that was revoked
-- stays, so that its name means one token for ever. What is left of its rate is in rate_buckets under `token:` and its name.
CREATE TABLE api_tokens (
    name          TEXT NOT NULL PRIMARY KEY,
    secret_sha256 TEXT NOT NULL UNIQUE,
    role          TEXT NOT NULL,
    rate          TEXT,
    created_at    INTEGER NOT NULL,
    created_by    TEXT NOT NULL,
    expires_at    INTEGER,
    last_used_at  INTEGER,
    revoked_at    INTEGER,
    revoked_by    TEXT
) STRICT, WITHOUT ROWID;

-- Users and sessions.

CREATE TABLE users (
    name     TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    record   TEXT NOT NULL,     -- JSON
    checksum INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sessions (
    key        BLOB PRIMARY KEY,  -- SHA-256 of the secret
    name       TEXT NOT NULL,
    used_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    grants     TEXT NOT NULL,     -- JSON
    record     TEXT NOT NULL      -- JSON
) WITHOUT ROWID;
CREATE INDEX session_name ON sessions (name);
CREATE INDEX session_end ON sessions (expires_at);

-- Logins that were counted in a window, until one succeeds.
CREATE TABLE login_attempts (
    key   TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX login_attempt_end ON login_attempts (until);

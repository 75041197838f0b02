-- What receivers of notifications about alarms have got.

CREATE TABLE alarm_receivers (
    receiver TEXT PRIMARY KEY,
    state    TEXT NOT NULL,      -- JSON
    checksum INTEGER NOT NULL
);

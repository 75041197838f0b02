-- Waveforms. Times are microseconds since 1970. A part of a waveform has a checksum of its own, too: see waveforms/.

CREATE TABLE wave_streams (
    stream           BLOB PRIMARY KEY,
    mrn              INTEGER NOT NULL,
    opened_at        INTEGER NOT NULL,
    description      TEXT NOT NULL,     -- JSON
    longest_chunk_us INTEGER NOT NULL,  -- bounds the search for chunks of a range
    checksum         INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX wave_stream_history ON wave_streams (mrn, opened_at);
CREATE INDEX wave_stream_age ON wave_streams (opened_at);

-- What is not sealed yet. A piece is identified by the hash of its content.
CREATE TABLE wave_pieces (
    stream    BLOB NOT NULL,
    id        BLOB NOT NULL,
    part      INTEGER NOT NULL,
    from_us   INTEGER NOT NULL,
    to_us     INTEGER NOT NULL,
    stored_us INTEGER NOT NULL,
    data      BLOB NOT NULL,
    checksum  INTEGER NOT NULL,
    PRIMARY KEY (stream, id)
) WITHOUT ROWID;
CREATE INDEX wave_piece_age ON wave_pieces (part, stored_us);

-- A sealed chunk: its head here, its samples in the next table. Overviews read heads alone.
CREATE TABLE wave_heads (
    stream   BLOB NOT NULL,
    channel  INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    from_us  INTEGER NOT NULL,
    to_us    INTEGER NOT NULL,
    head     BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (stream, channel, number)
) WITHOUT ROWID;
CREATE INDEX wave_head_times ON wave_heads (stream, channel, to_us);
CREATE INDEX wave_head_age ON wave_heads (to_us);

CREATE TABLE wave_samples (
    stream   BLOB NOT NULL,
    channel  INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    data     BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (stream, channel, number)
) WITHOUT ROWID;

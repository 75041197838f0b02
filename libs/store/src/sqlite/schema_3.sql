-- Whether the time of a heart rate is that of its recording or that of its receipt. Older rows know it of their ECGs alone.
ALTER TABLE heart_rates ADD COLUMN received_at INTEGER;
ALTER TABLE heart_rates ADD COLUMN recorded_at INTEGER;
UPDATE heart_rates SET
    received_at = (SELECT ecgs.received_at FROM ecgs WHERE ecgs.id = heart_rates.ecg_id),
    recorded_at = (SELECT ecgs.at FROM ecgs
                   WHERE ecgs.id = heart_rates.ecg_id AND json_extract(ecgs.record, '$.recorded_at') IS NOT NULL)
WHERE ecg_id IS NOT NULL;

-- The highest time that the server's clock has shown: one row, from the first time on.
CREATE TABLE clock (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    highest INTEGER NOT NULL
);

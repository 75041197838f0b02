-- A file that no record refers to yet has an owner: the upload that brought it, and when it did so last. With the record,
-- or when another upload brings it, too, it is nobody's and stays.
ALTER TABLE blobs ADD COLUMN upload BLOB;
ALTER TABLE blobs ADD COLUMN brought_at INTEGER;

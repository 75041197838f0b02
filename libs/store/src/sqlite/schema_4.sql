-- Name of the client that sent an upload; not known of earlier uploads.
ALTER TABLE uploads ADD COLUMN uploaded_by TEXT;

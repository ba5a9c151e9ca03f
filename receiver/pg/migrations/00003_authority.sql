-- +goose Up
-- What the authority recorded, if [authority] url_file is set. Rows are never changed or deleted.
-- +goose StatementBegin
DO $$
BEGIN
  CREATE ROLE cis490_authority NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- of another database of this server
END $$;
-- +goose StatementEnd

CREATE TABLE authority_rows (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of commits
  file text COLLATE "C" NOT NULL,                       -- a line of it, or its whole content
  line text NOT NULL);

-- Which machine has the authority, and which takes over. serve cannot write here, as in leases.
CREATE TABLE authority_leases (
  name text PRIMARY KEY, holder text NOT NULL, token bigint NOT NULL, until timestamptz NOT NULL);

-- What every receiver may know: no token and no invitation.
CREATE VIEW authority_public AS
  SELECT id, file, line FROM authority_rows WHERE file IN ('roster.jsonl', 'trust.pem', 'release-keys');

-- cis490_authority is for bootstrap. It cannot read or write anything of serve's.
GRANT SELECT ON meta, goose_db_version, leases TO cis490_authority;
GRANT SELECT, INSERT ON authority_rows TO cis490_authority;
GRANT SELECT, INSERT, UPDATE ON authority_leases TO cis490_authority;
GRANT SELECT ON authority_public, authority_leases TO cis490_serve;

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['cis490_serve', 'cis490_read'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', r);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- of another database of this server
    END;
  END LOOP;
END $$;
-- +goose StatementEnd

CREATE TABLE meta (                       -- one row
  one      boolean PRIMARY KEY DEFAULT true CHECK (one),
  store_id text NOT NULL DEFAULT gen_random_uuid()::text,
  epoch    bigint NOT NULL DEFAULT 1,     -- grows when positions begin anew
  pos_base bigint NOT NULL DEFAULT 0,     -- added to transaction ids
  made_at  timestamptz NOT NULL DEFAULT now());
INSERT INTO meta DEFAULT VALUES;

-- An episode's row decides which content it has. It is never deleted.
CREATE TABLE episodes (
  host        text COLLATE "C" NOT NULL,
  episode     text COLLATE "C" NOT NULL CHECK (length(episode) = 26),
  sha256      bytea NOT NULL CHECK (length(sha256) = 32),
  size        bigint NOT NULL CHECK (size >= 0),
  code_commit bytea CHECK (length(code_commit) = 20),
  received_at timestamptz NOT NULL,
  pos         bigint NOT NULL,            -- of its last change
  missing     boolean NOT NULL DEFAULT false, -- its object is lost: the host may send it again
  repaired    boolean NOT NULL DEFAULT false,
  PRIMARY KEY (host, episode)
) PARTITION BY RANGE (episode);           -- by month: a ULID begins with its time
CREATE INDEX episodes_pos ON episodes (pos);
CREATE INDEX episodes_received_at ON episodes (received_at);
CREATE TABLE episodes_default PARTITION OF episodes DEFAULT; -- of hosts whose clock is far off

CREATE TABLE archived (                   -- episodes that were moved out
  host        text COLLATE "C" NOT NULL,
  episode     text COLLATE "C" NOT NULL,
  sha256      bytea NOT NULL,
  size        bigint NOT NULL,
  code_commit bytea,
  received_at timestamptz NOT NULL,       -- when it was archived
  pos         bigint NOT NULL,
  PRIMARY KEY (host, episode));
CREATE INDEX archived_pos ON archived (pos);
CREATE INDEX archived_received_at ON archived (received_at);

-- The rows of index.jsonl.
CREATE VIEW index_rows AS
  SELECT host, episode, sha256, size, code_commit, received_at, pos, repaired, false AS archived FROM episodes
  UNION ALL
  SELECT host, episode, sha256, size, code_commit, received_at, pos, false, true FROM archived;

-- For people and analysts.
CREATE VIEW episode_index AS
  SELECT e.received_at, e.host, e.episode, encode(e.sha256, 'hex') AS sha256, e.size, encode(e.code_commit, 'hex') AS commit,
         e.repaired, a.host IS NOT NULL AS archived, e.missing,
         'episodes/' || e.host || '/' || e.episode || '.' || encode(e.sha256, 'hex') || '.'
           || coalesce(encode(e.code_commit, 'hex'), repeat('-', 40)) || '.tar.zst' AS key
  FROM episodes e LEFT JOIN archived a USING (host, episode);

CREATE TABLE rejections (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, host text COLLATE "C" NOT NULL, body json NOT NULL);
CREATE TABLE alerts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, host text COLLATE "C" NOT NULL, body json NOT NULL);
CREATE TABLE silences (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, host text COLLATE "C" NOT NULL, body json NOT NULL);
CREATE INDEX rejections_at ON rejections (at, id);
CREATE INDEX alerts_at ON alerts (at, id);
CREATE INDEX silences_at ON silences (at, id);

CREATE SEQUENCE document_versions;
CREATE TABLE documents (
  name    text COLLATE "C" PRIMARY KEY,
  version bigint NOT NULL DEFAULT nextval('document_versions'),
  saved   timestamptz NOT NULL DEFAULT clock_timestamp(),
  body    bytea NOT NULL);

CREATE TABLE leases (
  name text PRIMARY KEY, holder text NOT NULL, token bigint NOT NULL, until timestamptz NOT NULL);

-- +goose StatementBegin
-- ulid_time returns the first ten characters of a ULID of a time.
CREATE FUNCTION ulid_time(at timestamptz) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  left_ms bigint := floor(extract(epoch FROM at) * 1000);
  out text := '';
BEGIN
  FOR i IN 1..10 LOOP
    out := substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (left_ms % 32)::int + 1, 1) || out;
    left_ms := left_ms / 32;
  END LOOP;
  RETURN out;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- add_partitions makes the partitions of the months from one before now to some months ahead.
-- Rows of these months leave the default partition. It returns how many it made. Its owner is
-- the tables' owner, so that serve needs no right to make tables.
CREATE FUNCTION add_partitions(months int) RETURNS int LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  month timestamptz;
  name text;
  lo text;
  hi text;
  made int := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(490, 1);
  FOR i IN -1..least(months, 24) LOOP
    month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i)) AT TIME ZONE 'UTC';
    name := 'episodes_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
    CONTINUE WHEN to_regclass(name) IS NOT NULL;
    lo := ulid_time(month);
    hi := ulid_time((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
    EXECUTE format('CREATE TABLE %I (LIKE episodes INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    LOCK TABLE episodes_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('WITH moved AS (DELETE FROM episodes_default WHERE episode >= %L AND episode < %L RETURNING *) '
      'INSERT INTO %I SELECT * FROM moved', lo, hi, name);
    EXECUTE format('ALTER TABLE episodes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, lo, hi);
    made := made + 1;
  END LOOP;
  RETURN made;
END $$;
-- +goose StatementEnd

SELECT add_partitions(3);

-- cis490_serve is for serve and fleet-check. It cannot delete or replace a row of an episode.
GRANT SELECT ON meta, goose_db_version, index_rows, episodes_default TO cis490_serve;
GRANT UPDATE (epoch, pos_base) ON meta TO cis490_serve;
GRANT SELECT, INSERT, UPDATE (pos, missing, repaired) ON episodes TO cis490_serve;
GRANT SELECT, INSERT ON archived, alerts, silences TO cis490_serve;
GRANT SELECT, INSERT, DELETE ON rejections TO cis490_serve;
GRANT SELECT, INSERT, UPDATE, DELETE ON documents TO cis490_serve;
GRANT SELECT, INSERT, UPDATE ON leases TO cis490_serve;
GRANT USAGE ON SEQUENCE document_versions TO cis490_serve;
REVOKE EXECUTE ON FUNCTION add_partitions(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION add_partitions(int) TO cis490_serve;

-- cis490_read is for analysts and Grafana.
GRANT SELECT ON episode_index TO cis490_read;

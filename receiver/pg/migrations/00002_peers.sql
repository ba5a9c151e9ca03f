-- +goose Up
-- What each of several receivers publishes for the others: contacts of hosts, and its own state.
-- A receiver writes only its own rows.
CREATE TABLE peers (
  receiver text COLLATE "C" NOT NULL,
  key      text COLLATE "C" NOT NULL,
  pos      bigint NOT NULL,               -- of its last change, as in episodes
  saved    timestamptz NOT NULL,
  content  bytea NOT NULL,
  PRIMARY KEY (receiver, key)) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX peers_pos ON peers (pos);
GRANT SELECT, INSERT, UPDATE, DELETE ON peers TO cis490_serve;

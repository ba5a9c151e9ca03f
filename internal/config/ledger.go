package config

// Where rows and documents are kept.
const (
	LedgerFiles    = "files"
	LedgerPostgres = "postgres"
)

// Ledger configures where rows and documents are kept. The URL of the database, which has a
// password, is in a file of its own.
type Ledger struct {
	Backend string `toml:"backend"` // LedgerFiles or LedgerPostgres
	URLFile string `toml:"url_file"`
	Pooler  bool   `toml:"pooler"` // PgBouncer in transaction mode is in between
}

// validate checks the other keys only if they are used, so that they can be prepared.
func (c Ledger) validate(p *problems, s Store) {
	switch c.Backend {
	case LedgerFiles:
	case LedgerPostgres:
		p.absolute("ledger.url_file", c.URLFile)
		if s.Backend != StoreS3 {
			p.add("ledger.backend", `"postgres" needs [store] backend = "s3"`)
		}
	default:
		p.add("ledger.backend", `want "files" or "postgres"`)
	}
}

package setup

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/nyxnet/nyx/internal/directory"
)

// recordsTable is where the session records of a fleet are: a file of SQLite, which
// stands without its scheme in Config.Records, or a URL of PostgreSQL.
type recordsTable struct {
	Store string `toml:"store"`
}

// records reads the table of Stream nodes that share session records.
func (d *document) records(c *Config, f *configFile) {
	where := f.Records.Store
	if where == "" && !d.has("records") {
		return
	}
	if c.Roles&(directory.RoleEntry|directory.RoleExit) == 0 {
		d.bad("records", "has no effect without the role entry or exit. Remove the table, or add the role")
		return
	}
	if file, ok := strings.CutPrefix(where, "sqlite:"); ok && file != "" {
		c.Records = beside(filepath.Dir(d.path), file)
		return
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		d.bad("records.store", `%q is not a place for session records. Write "sqlite:FILE" for nodes of one machine, or the URL of a database as in "postgres://user@host/nyx"`, where)
		return
	}
	c.Records = where
}

// Package scenarios holds the catalogue: one data file per scenario. Package
// lab reads it.
package scenarios

import "embed"

// Files are the scenarios, as nyx carries them.
//
//go:embed *.toml
var Files embed.FS

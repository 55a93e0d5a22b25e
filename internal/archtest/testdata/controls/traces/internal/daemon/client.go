// Package daemon traces users.
package daemon

import "github.com/nyxnet/nyx/internal/client"

func f(cfg client.Config) {
	cfg.Steps = nil                   // want "only probes are traced"
	_ = client.Config{Steps: nil}     // want "only probes are traced"
	_ = []client.Config{{Steps: nil}} // want "only probes are traced"
	g(cfg.Steps)
}

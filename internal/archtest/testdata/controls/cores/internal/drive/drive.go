// Package drive is no core.
package drive

import "sync"

func run(mu *sync.Mutex) { go run(mu) }

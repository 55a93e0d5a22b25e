// Package proxy is not the root package, which may draw seeds.
package proxy

import "crypto/rand" // want "imports crypto/rand"

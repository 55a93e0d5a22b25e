// Package drive draws seeds and nothing else.
package drive

import (
	"crypto/rand"
	"crypto/sha256" // want "imports crypto/sha256"
)

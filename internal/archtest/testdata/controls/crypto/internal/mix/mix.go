// Package mix has cryptography of its own.
package mix

import (
	"crypto/aes"  // want "imports crypto/aes"
	"crypto/rand" // want "imports crypto/rand"
	"math/rand"   // want "imports math/rand"

	"filippo.io/mldsa"                     // want "imports filippo.io/mldsa"
	"golang.org/x/crypto/chacha20poly1305" // want "imports golang.org/x/crypto"
)

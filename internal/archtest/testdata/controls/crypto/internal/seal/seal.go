// Package seal may.
package seal

import "crypto/aes"

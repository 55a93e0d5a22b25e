// Package wire imports upward, sideways, and in its tests.
package wire

import (
	_ "github.com/nyxnet/nyx"               // want "rank 10.5"
	_ "github.com/nyxnet/nyx/internal/link" // want "imports github.com/nyxnet/nyx/internal/link of rank 2.0 from rank 1.0"
	_ "github.com/nyxnet/nyx/internal/machine"
	_ "github.com/nyxnet/nyx/internal/seal" // want "rank 1.0 from rank 1.0"
)

package wire

import _ "github.com/nyxnet/nyx/internal/sim"

package daemon

import (
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
)

var (
	_ = gateway.Config{Steps: nil}
	_ = client.Config{Steps: nil} // want "only probes are traced"
)

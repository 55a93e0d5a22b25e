package changes_test

import (
	"testing"

	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/storetest"
)

func TestMemory(t *testing.T) { storetest.RunChanges(t, registry.NewMemory(nil, nil)) }

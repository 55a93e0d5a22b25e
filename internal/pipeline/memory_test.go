package pipeline_test

import (
	"testing"

	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/pipeline/bustest"
)

func TestMemory(t *testing.T) {
	bustest.Run(t, func(_ *testing.T, l pipeline.Limits) pipeline.Bus { return pipeline.NewMemory(l) })
}

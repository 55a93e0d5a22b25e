package bench

import (
	"time"

	"github.com/nyxnet/nyx/internal/lab/cpu"
)

func cpuTime() time.Duration { return cpu.Time() }

package link

import (
	"testing/synctest"
	"time"
)

func g() { time.Sleep(1) }

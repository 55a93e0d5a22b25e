package link

import "time"

func f() { time.Sleep(1) } // want "test sleeps"

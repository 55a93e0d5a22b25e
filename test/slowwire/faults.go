//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Faults are what is wrong with a wire, in each direction.
type Faults struct {
	Delay  time.Duration // one way
	Jitter time.Duration // the delay is drawn between Delay - Jitter and Delay + Jitter, so that packets overtake each other
	Loss   uint64        // packets in a million that are lost
	Rate   int64         // bits per second; 0 is no bound
	Limit  int           // packets held at a time, under way or waiting for the rate; what exceeds it is lost
}

// limitDefault is netem's.
const limitDefault = 1000

// parseFaults reads netem's words: delay TIME [JITTER], loss PERCENT, rate
// BITS, limit PACKETS.
func parseFaults(words []string) (f Faults, err error) {
	f.Limit = limitDefault
	for i := 0; i < len(words) && err == nil; i += 2 {
		if i+1 == len(words) {
			return f, fmt.Errorf("%s wants a value", words[i])
		}
		value := words[i+1]
		switch words[i] {
		case "delay":
			f.Delay, err = time.ParseDuration(value)
			if i+2 < len(words) && err == nil {
				if j, bad := time.ParseDuration(words[i+2]); bad == nil {
					f.Jitter = j
					i++
				}
			}
		case "loss":
			var percent float64
			percent, err = strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
			f.Loss = uint64(percent * 1e4)
		case "rate":
			var mega float64
			mega, err = strconv.ParseFloat(strings.TrimSuffix(value, "mbit"), 64)
			f.Rate = int64(mega * 1e6)
		case "limit":
			f.Limit, err = strconv.Atoi(value)
		default:
			return f, fmt.Errorf("%q is none of delay, loss, rate, limit", words[i])
		}
	}
	if err == nil && (f.Delay < f.Jitter || f.Jitter < 0 || f.Rate < 0 || f.Limit <= 0 || f.Loss > 1e6) {
		err = fmt.Errorf("%s: out of range", strings.Join(words, " "))
	}
	return f, err
}

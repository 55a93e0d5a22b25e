// Package link declares what the documents name.
package link

type Endpoint struct{}

const DialMax = 1

func (e *Endpoint) Dial() {}

func helloParts() {}

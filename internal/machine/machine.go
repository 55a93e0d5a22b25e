// Package machine is the contract between the protocol cores and what runs
// them: a virtual clock reading, datagrams in, datagrams out, timers and jobs.
//
// A core does no I/O. It never blocks, starts no goroutine, reads no clock and
// draws no global randomness; time and entropy are arguments. The UDP runtime
// (package drive) and the simulator (package sim) drive the same cores through
// this one interface, which is what makes every run repeatable from its seed.
package machine

import (
	"math"
	"net/netip"
	"time"
)

// Time is nanoseconds since the run began. It has no Now: a core cannot ask
// for the time, it is told.
type Time int64

// Never is the timer of a machine that waits for nothing but input.
const Never Time = math.MaxInt64

// Add returns t moved by d. Adding to Never, or past the end of time, is Never.
func (t Time) Add(d time.Duration) Time {
	if t == Never || (d > 0 && t > Never-Time(d)) {
		return Never
	}
	return t + Time(d)
}

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Machine is a protocol core, owned by one goroutine at a time.
//
// Handle… methods take input, Poll… methods yield output until they return
// false, NextTimer says when HandleTimer wants to be called. Getters change
// nothing. After any Handle call the owner polls jobs and transmits until both
// are empty, then waits for the earlier of a datagram and NextTimer.
type Machine interface {
	// HandleDatagram takes one UDP payload. b is borrowed for the call and may
	// be overwritten by it (datagrams are decrypted in place).
	HandleDatagram(now Time, from netip.AddrPort, b []byte)

	// HandleTimer runs what is due at now. Calling it early is harmless.
	HandleTimer(now Time)

	// NextTimer is when HandleTimer has work, or Never.
	NextTimer() Time

	// PollTransmit writes the next datagram into b, which has room for one
	// (1280 bytes), and says where it goes. Consecutive datagrams to one
	// address are yielded together where possible, so that the runtime can
	// send them as one segmented write.
	PollTransmit(now Time, b []byte) (to netip.AddrPort, n int, ok bool)

	// PollJob yields heavy pure work (a key decapsulation, a signature) to be
	// run anywhere, at any time, and handed back by HandleJob.
	PollJob() (Job, bool)

	// HandleJob takes back a job whose Run has returned.
	HandleJob(now Time, j Job)
}

// Opener is a Machine that can open the datagrams of a batch before it handles
// them, so that their decryption may be spread over processors while their order
// stays. What it does and sends is the same with and without.
//
// A machine around another that has a HandleDatagram of its own needs a
// HandleOpened of its own too.
type Opener interface {
	Machine

	// Batch begins a batch of n datagrams with room for what is found of them,
	// which the machine keeps until Batch(0).
	Batch(n int)

	// OpenAhead decrypts datagram i of the batch into room of its own, as far as
	// what is known now allows. It changes nothing else, b neither. It may run on
	// several goroutines at once, each for another i, while no other method runs.
	OpenAhead(i int, b []byte)

	// HandleOpened is HandleDatagram for datagram i, for which OpenAhead has run or
	// not. The owner calls it in the order in which the datagrams came.
	HandleOpened(now Time, from netip.AddrPort, b []byte, i int)
}

// Job is heavy pure work. Run touches nothing but the job's own memory, so it
// may run on another goroutine; its result stays inside the job.
type Job interface {
	Run()
}

// Package link breaks every ban of a core.
package link

import (
	"context" // want "core imports context"
	"fmt"
	"hash/maphash" // want "core imports hash/maphash"
	"log/slog"     // want "core imports log/slog"
	"net"          // want "core imports net:"
	"net/http"     // want "core imports net/http"
	"net/netip"
	"os"          // want "core imports os:"
	"runtime"     // want "core imports runtime"
	"sync"        // want "core imports sync:"
	"sync/atomic" // want "core imports sync/atomic"
	"time"
	clock "time"

	"golang.org/x/sys/unix" // want "core imports golang.org/x/sys/unix"
)

var interval time.Duration // a type is no clock

func f(c chan int) { // want "core has a channel"
	clock.Now()        // want "core calls time.Now"
	_ = clock.Since    // want "core calls time.Since"
	fmt.Println("out") // want "core calls fmt.Println"
	_ = fmt.Sprint("in")
	go f(nil)           // want "core has a go statement"
	_ = make(chan bool) // want "core has a channel"
	c <- 1              // want "core has a channel send"
	<-c                 // want "core has a channel receive"
	select {}           // want "core has a select"
	println("here")     // want "core has a println"
	println, x := g, 1  // shadowing fools nobody
	_, _ = println, x
}

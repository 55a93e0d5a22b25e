package governance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Feed is what dashboards follow.
type Feed interface {
	// Next waits for the first update after an ID, and returns its ID and its JSON, on
	// one line. An ID below 0 asks for the newest.
	Next(ctx context.Context, after int64) (id int64, update []byte, err error)
}

const (
	// viewersMost bounds who follows the feed at a time, each of whom holds one of the
	// requests that are worked on.
	viewersMost = 8
	// viewMax is how long one request follows it: who comes again is asked who they
	// are again, and the log says so.
	viewMax = 10 * time.Minute
	// beatEvery is how often something is sent where nothing happens, well within
	// writeMax, so that a client that is gone is noticed.
	beatEvery = 10 * time.Second
)

// insights serves the feed as server-sent events (WHATWG HTML, 9.2): each an
// INSIGHT_UPDATE with its ID. Last-Event-ID, or the parameter after, says which was the
// last that came.
func (c *call) insights() (*answer, error) {
	q, err := parseQuery(c.URL.RawQuery, "after")
	if err != nil {
		return nil, err
	}
	feed := c.api.cfg.Feed
	if len(c.rest) != 0 || feed == nil {
		return nil, &refusal{status: http.StatusNotFound, reason: "path", say: "this process has no feed of insights"}
	}
	last := c.Header.Get("Last-Event-ID")
	if last == "" {
		last = q.Get("after")
	}
	after := int64(-1)
	if last != "" {
		if after, err = strconv.ParseInt(last, 10, 64); err != nil || after < 0 {
			return nil, malformed("Last-Event-ID, or after, is the id of an update")
		}
	}
	for name := range q {
		if name != "after" {
			return nil, malformed("the feed has no filter; there is after")
		}
	}
	if err := c.decide(ReadFeed, &Resource{AllOrgs: true}); err != nil {
		return nil, err
	}
	select {
	case c.api.viewers <- struct{}{}:
	default:
		return nil, &refusal{status: http.StatusServiceUnavailable, reason: "busy", say: "as many follow the feed as may; come again", retry: 30}
	}
	if err := c.record(); err != nil {
		<-c.api.viewers
		return nil, err
	}
	return &answer{kind: "text/event-stream", stream: func(ctx context.Context, w io.Writer) error {
		defer func() { <-c.api.viewers }()
		flush := func() error { return nil }
		if p, ok := w.(*paced); ok {
			p.control.SetReadDeadline(time.Time{}) // the request is read, and nothing more is to come
			flush = p.control.Flush
		}
		ctx, cancel := context.WithTimeout(ctx, viewMax)
		defer cancel()
		return follow(ctx, feed, after, func(text string) bool {
			_, err := io.WriteString(w, text)
			return err == nil && flush() == nil
		})
	}}, nil
}

const beat = ": \n\n"

// follow sends updates until ctx ends or the client is gone.
func follow(ctx context.Context, feed Feed, after int64, send func(string) bool) error {
	for there := send(beat); there; { // at once, so that a client knows that it is heard
		wait, cancel := context.WithTimeout(ctx, beatEvery)
		id, update, err := feed.Next(wait, after)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			there = send(beat)
		case err != nil:
			return err
		default:
			after = id
			there = send(fmt.Sprintf("event: INSIGHT_UPDATE\nid: %d\ndata: %s\n\n", id, update))
		}
	}
	return nil
}

package console

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/registry/changes"
)

// Errors of what somebody wants done.
var (
	errNoRecord    = errors.New("there is no audit log here to record it in, so nothing can be changed; start the network with a control process")
	errNotRecorded = errors.New("that you want this cannot be recorded now, so it is not done; come again")
	errNone        = errors.New("there is none here")
	errFull        = errors.New("too many people have signed in; come again")
)

// statusOf is how an error is told in HTTP.
func statusOf(err error) int {
	switch {
	case errors.Is(err, errNoRecord), errors.Is(err, errNotRecorded), errors.Is(err, errFull):
		return http.StatusServiceUnavailable
	case errors.Is(err, changes.ErrStale), errors.Is(err, errBusy):
		return http.StatusConflict
	case errors.Is(err, errNone):
		return http.StatusNotFound
	}
	return http.StatusBadRequest
}

// oneLine makes an error of several lines one.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// timed bounds what is done for a request, also where its client has gone.
func timed(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), d)
}

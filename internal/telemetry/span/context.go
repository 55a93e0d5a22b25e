package span

import (
	"context"
	"net/http"
)

// Header is where a request names the span that it is a part of (W3C Trace Context,
// version 00). Requests to the control plane have it where they are made for a probe.
const Header = "Traceparent"

type contextKey struct{}

// With has requests that are made under a context name a span.
func With(ctx context.Context, c Context) context.Context {
	if !c.Valid() {
		return ctx
	}
	return context.WithValue(ctx, contextKey{}, c)
}

// Inject writes the span of a request's context, if it has one, into its head.
func Inject(r *http.Request) {
	if c, ok := r.Context().Value(contextKey{}).(Context); ok {
		r.Header.Set(Header, "00-"+c.Trace.String()+"-"+c.Span.String()+"-01")
	}
}

// Extract reads the span that a request names, or one that is not valid.
func Extract(r *http.Request) (c Context) {
	h := r.Header.Get(Header)
	if len(h) != 55 || h[:3] != "00-" || h[35] != '-' || h[52:] != "-01" {
		return Context{}
	}
	if c.Trace.UnmarshalText([]byte(h[3:35])) != nil || c.Span.UnmarshalText([]byte(h[36:52])) != nil {
		return Context{}
	}
	return c
}

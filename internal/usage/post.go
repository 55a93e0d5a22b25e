package usage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/nyxnet/nyx/internal/setup"
)

func (s *Settings) check() error {
	if err := setup.CheckCollector(s.URL); err != nil {
		return err
	}
	_, err := setup.Through(s.Through)
	return err
}

var errMoved = errors.New("it sends elsewhere, and reports go nowhere but to where the user has said")

// post sends a report in a request that is like any other user's: on a connection of its own,
// without cookies, and through the proxy if there is one, or not at all.
func (s *Settings) post(ctx context.Context, r *Report) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	through, err := setup.Through(s.Through)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: through, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errMoved },
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	q.Header = http.Header{"Content-Type": {"application/json"}, "User-Agent": {"nyx"}}
	answer, err := client.Do(q)
	if err != nil {
		return fmt.Errorf("the report was not taken: %w", err)
	}
	answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the report was not taken: %s says %s", q.URL.Host, answer.Status)
	}
	return nil
}

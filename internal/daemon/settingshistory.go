package daemon

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nyxnet/nyx/internal/control/settings"
)

// Changes returns the changes after a revision, the oldest first; it makes the
// configuration a History.
func (s *SettingsControl) Changes(ctx context.Context, after uint64, limit int) (out []json.RawMessage, err error) {
	var wrong error
	err = s.Log.History(ctx, after+1, func(c settings.Change) bool {
		if len(out) == limit {
			return false
		}
		var b []byte
		b, wrong = json.Marshal(&c)
		out = append(out, b)
		return wrong == nil
	})
	return out, errors.Join(err, wrong)
}

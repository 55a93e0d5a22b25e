package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// SettingsHistory is the history of a control process's configuration, for who reads it:
// a governance.History. It is there as soon as the process has opened the configuration.
type SettingsHistory struct{ log atomic.Pointer[changes.Log] }

var errNoHistory = errors.New("the configuration is not open yet; come again")

// Changes returns the changes after a revision, the oldest first.
func (h *SettingsHistory) Changes(ctx context.Context, after uint64, limit int) (out []json.RawMessage, err error) {
	log := h.log.Load()
	if log == nil {
		return nil, errNoHistory
	}
	var wrong error
	err = log.History(ctx, after+1, func(c settings.Change) bool {
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

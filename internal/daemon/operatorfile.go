package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/setup"
)

// OperatorFileName is how the file is named where a control process keeps its data.
const OperatorFileName = "operator.json"

// OperatorFile is what an operator needs to reach a control process. It holds a
// secret: only its owner may read it.
type OperatorFile struct {
	// URL is http://host:port on this machine, or https://host:port#hash with the hash
	// of the server's key.
	URL   string `json:"url"`
	Token string `json:"token"`
}

// LoadOperatorFile reads a file.
func LoadOperatorFile(path string) (f OperatorFile, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("cannot read the operator file: %w", err)
	}
	if err = json.Unmarshal(b, &f); err == nil {
		_, err = mirror.ParseServer(f.URL)
	}
	if err != nil {
		return f, fmt.Errorf("%s is not an operator file: %w", path, err)
	}
	return f, nil
}

// Save writes the file, for its owner alone.
func (f OperatorFile) Save(path string) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := setup.ReplaceFile(path, append(b, '\n')); err != nil {
		return fmt.Errorf("cannot write the operator file: %w", err)
	}
	return nil
}

// Address is the URL without the hash.
func (f OperatorFile) Address() string {
	s, err := mirror.ParseServer(f.URL)
	if err != nil {
		return f.URL
	}
	return s.URL
}

// Client reaches the server of the file.
func (f OperatorFile) Client() (*http.Client, error) {
	s, err := mirror.ParseServer(f.URL)
	if err != nil {
		return nil, err
	}
	own, err := front.SelfSigned("", time.Now())
	if err != nil {
		return nil, err
	}
	return s.Client(own), nil
}

// NewChangeID draws the id of a change.
func NewChangeID() (id settings.ID) {
	systemEntropy().Stream("change").Read(id[:])
	return id
}

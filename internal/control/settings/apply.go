package settings

import (
	"errors"
	"fmt"
)

// Subscriber is a part that settings change while it runs.
type Subscriber struct {
	// Name is for errors.
	Name string
	// Prepare does all that can fail, changes nothing, and returns what makes the
	// change: commit cannot fail. abandon, which may be nil, gives up what was
	// prepared when another part cannot follow.
	Prepare func(v Values) (commit, abandon func(), err error)
}

// Apply gives values to all subscribers or, with the reasons, to none of them.
func Apply(v Values, to []Subscriber) error {
	var commits, abandons []func()
	var faults []error
	for _, s := range to {
		commit, abandon, err := s.Prepare(v)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", s.Name, err))
			continue
		}
		if commit != nil {
			commits = append(commits, commit)
		}
		if abandon != nil {
			abandons = append(abandons, abandon)
		}
	}
	if len(faults) > 0 {
		for i := len(abandons) - 1; i >= 0; i-- {
			abandons[i]()
		}
		return errors.Join(faults...)
	}
	for _, commit := range commits {
		commit()
	}
	return nil
}

package main

import (
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
)

// What the arguments ask for is done, or refused with what to give.
func TestDistrustArguments(t *testing.T) {
	id := strings.Repeat("3f", 32)
	var d directory.Distrust
	for _, c := range []struct {
		args   []string
		reason string
		lift   bool
		nodes  int
		wrong  string
	}{
		{nil, "", false, 0, ""},
		{nil, "why", false, 0, "no node is named"},
		{[]string{id}, "", false, 0, "either why"},
		{[]string{id}, "why", true, 0, "either why"},
		{[]string{id[1:]}, "why", false, 0, "64 hexadecimal digits"},
		{[]string{id}, "why", false, 1, ""},
		{[]string{id}, "", true, 0, ""},
		{[]string{id}, "", true, 0, "is not distrusted"},
	} {
		change, err := distrustChange(c.args, c.reason, c.lift)
		if err == nil && change != nil {
			err = change(&d)
		}
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) || len(d.Nodes) != c.nodes {
			t.Errorf("%v %q %v: %d nodes, %v", c.args, c.reason, c.lift, len(d.Nodes), err)
		}
	}
}

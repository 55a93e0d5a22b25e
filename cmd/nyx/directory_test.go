package main

import (
	"io"
	"strings"
	"testing"
)

// Who names nothing is told what could be named, not how many arguments a program
// counts.
func TestDirectoryVerifySaysWhatToName(t *testing.T) {
	cmd := directoryCommand()
	cmd.SetArgs([]string{"verify"})
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "nyx directory verify network") {
		t.Errorf("%v", err)
	}
}

package cpu

import (
	"strings"

	"golang.org/x/sys/cpu"
)

// Vectors names the vector instructions of this processor by which error
// correction computes.
func Vectors() string {
	var have []string
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"SSSE3", cpu.X86.HasSSSE3}, {"AVX2", cpu.X86.HasAVX2}, {"AVX-512", cpu.X86.HasAVX512F}, {"NEON", cpu.ARM64.HasASIMD},
	} {
		if f.has {
			have = append(have, f.name)
		}
	}
	if have == nil {
		return "none"
	}
	return strings.Join(have, ", ")
}

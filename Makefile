# What a developer calls. .ci/run is the list of all checks; a step of it runs
# alone as .ci/run STEP.

.PHONY: all check race sim fuzz golden bench docs e2e long cross ci

all: check

# Formatting, build, tests, vet, staticcheck: before every commit.
check:
	.ci/run format build test vet staticcheck

# The race detector on all that has goroutines. Needs a C compiler.
race:
	.ci/run race

# The simulator and the scenario lab.
sim:
	go test -count=1 ./internal/sim/... ./internal/lab/...

# Ten seconds for each fuzz target, or FUZZTIME=1m make fuzz.
fuzz:
	.ci/run fuzz

# Rewrite the golden files of every package that has the -rewrite flag. Look
# at the difference before you commit it.
golden:
	go test -count=1 $$(grep -rl --include='*_test.go' 'flag.Bool("rewrite"' . | xargs -n 1 dirname | sort -u) -rewrite

# All benchmarks, 5 runs each, as benchstat reads them.
bench:
	go test -run '^$$' -bench . -benchmem -count 5 ./...

# What the documentation says about files, packages and functions is so.
docs:
	go test -count=1 -run 'TestArchitecture/Docs|README|Docs' . ./internal/archtest

# A whole network on this machine, used by curl, nc and nginx.
e2e:
	test/e2e.sh

# Other platforms.
cross:
	.ci/run cross

# Everything.
ci:
	.ci/run

# The long runs: 1 GiB both ways, every Mix node killed in turn, ssh, 10,000
# requests, idleness, and a client behind a slow wire. Some 20 minutes.
long:
	test/long.sh

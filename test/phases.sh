# What the test scripts beside this one share; they source it. Each phase prints
# a line, and finish the sum: "N passed, N failed".

passed=0 failed=0 skipped=0 began=$SECONDS
children=() # process ids that end with the script

# stop ends the processes that this script started, and no other.
stop() {
	local pid
	for pid in "${children[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${children[@]}"; do wait "$pid" 2>/dev/null; done
}
trap stop EXIT
trap 'exit 1' INT TERM

phase() { # phase WORD NAME [DETAIL]
	printf '%-4s  [%3ds] %s%s\n' "$1" $((SECONDS - began)) "$2" "${3:+: $3}"
}

result() { # result STATUS NAME [DETAIL]
	if [ "$1" = 0 ]; then
		passed=$((passed + 1)) && phase ok "$2" "${3:-}"
	else
		failed=$((failed + 1)) && phase FAIL "$2" "${3:-}"
	fi
}

skip() { # skip NAME REASON
	skipped=$((skipped + 1)) && phase skip "$1" "$2"
}

finish() {
	printf '%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" = 0 ]
	exit
}

wait_for() { # wait_for SECONDS COMMAND...
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.1
	done
}

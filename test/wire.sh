# A network in this namespace, its client in another, and between them a wire
# that has faults; the test scripts source it. By netem on a veth pair where the
# kernel has it, else by test/slowwire; $wire says which. (netem loses a train
# of datagrams that was sent at once as one packet.)

# wire_can says whether wires can be made here, or why not.
wire_can() {
	[ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare -n true 2>/dev/null || { echo "needs root, namespaces and iproute2"; return 1; }
	[ -e /dev/net/tun ] || unshare -n tc qdisc add dev lo root netem delay 1ms 2>/dev/null || { echo "needs /dev/net/tun, or netem"; return 1; }
}

# wire_open FAULT...: delay TIME [JITTER], loss PERCENT, rate N mbit, limit
# PACKETS, in netem's words, for each direction. inside runs a command at the client's end.
wire_open() {
	unshare -n sleep 100000 &
	other=$! wire_children=($!)
	children+=("$other")
	wait_for 10 eval '[ "$(readlink /proc/'$other'/ns/net)" != "$(readlink /proc/self/ns/net)" ]' || return
	wire=slowwire
	if unshare -n tc qdisc add dev lo root netem delay 1ms 2>/dev/null; then
		wire="tc netem"
		ip link add nyxa type veth peer name nyxb && tc qdisc add dev nyxa root netem "$@" || return
	else
		rm -f "$work/wire" "$work/faults"
		mkfifo "$work/faults"
		"$work/slowwire" -a nyxa -b nyxb -ready "$work/wire" "$@" <"$work/faults" >"$work/tally" &
		children+=($!) wire_children+=($!)
		exec 7>"$work/faults"
		wait_for 10 test -e "$work/wire" || return
	fi
	ip link set nyxb netns "$other" || return
	local n
	for n in 0 1 2 3 4 5 6 7 8 9; do ip addr add "10.$n.0.1/32" dev nyxa; done
	ip link set nyxa up && ip route add 10.200.0.0/16 dev nyxa src 10.0.0.1 || return
	inside ip link set lo up
	wire_address 10.200.0.1 && wire_set "$@"
}

inside() { nsenter -n -t "$other" "$@"; }

# wire_address ADDRESS: brings the client's end up, with that address alone.
wire_address() {
	inside sh -c "ip addr flush dev nyxb; ip addr add $1/32 dev nyxb && ip link set nyxb up && ip route add 10.0.0.0/8 dev nyxb src $1"
}

# wire_set FAULT...: other faults, from now on.
wire_set() {
	if [ "$wire" = slowwire ]; then
		echo "$*" >&7
	else
		tc qdisc replace dev nyxa root netem "$@" && inside tc qdisc replace dev nyxb root netem "$@"
	fi
}

wire_close() {
	kill "${wire_children[@]}" 2>/dev/null
	wait "${wire_children[@]}" 2>/dev/null
	[ "$wire" = slowwire ] && exec 7>&- || ip link del nyxa
}

# wire_join NAME FLAG...: a network of processes here, and a proxy with those
# flags at the client's end, ready.
wire_join() {
	local config name=$1
	shift
	rm -rf "$work/net" "$work/wireready"
	"$work/nyx" network init --dir "$work/net" --name "$name" --allow-private --stream 3 --mix 6 --threshold 2 >/dev/null || return
	# Every node has a network of its own, 127.N.0.1; the same with 10 is not loopback.
	grep -rlZ '127\.' "$work/net" | xargs -0 sed -i 's/127\.\([0-9]*\)\.0\.1/10.\1.0.1/g'
	for n in 1 2 3; do printf '[metrics]\nlisten = "127.0.0.1:%d"\ntraffic = true\n' "$((9490 + n))" >>"$work/net/stream-$n/node.toml"; done
	joined=()
	for config in "$work"/net/*/node.toml; do
		"$work/nyx" node --quiet --config "$config" 2>>"$work/$name.log" &
		joined+=($!)
		children+=($!)
	done
	nsenter -n -t "$other" "$work/nyx" proxy --quiet --network "$work/net/network.toml" --socks "$socks" --ready "$work/wireready" "$@" 2>>"$work/$name.log" &
	joined+=($!)
	children+=($!)
	wait_for 60 test -s "$work/wireready" || { result 1 "$name" "not ready in 60 s: $(tail -n 2 "$work/$name.log" | paste -sd' ')"; return 1; }
}

wire_leave() {
	kill "${joined[@]}" 2>/dev/null
	wait "${joined[@]}" 2>/dev/null
}

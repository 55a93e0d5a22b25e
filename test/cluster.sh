#!/usr/bin/env bash
# A network as it stands in the world, on this machine: 3 authorities, 3 witnesses,
# 2 replicas of the directory, a control process, 4 Stream nodes and 12 Mix nodes in
# 3 regions, each a process with an address of its own, the regions in namespaces
# with the delays of DELAYS between them, a client and its targets in two more.
# Processes are killed -9 while they carry traffic, which must not lose a byte.
#
#   test/cluster.sh              all of it, some 10 minutes
#   test/cluster.sh mix pair     two of the phases
#
#   each       a transfer down and up, a page of requests
#   mix        the Mix node that carries most of a transfer, three times
#   pair       two Mix nodes that carry a transfer, at once
#   entry      the Stream node at which a transfer enters
#   exit       the exit of a transfer; the next request
#   authority  an authority; a new client joins, a transfer
#   council    all authorities; a new client joins by the replicas
#   replicas   all replicas; a new client joins by the authorities
#   rest       every process in turn but the exit, during one transfer each
#
# Needs root, namespaces, iproute2, /dev/net/tun, nginx and nc. LEVEL=standard
# runs the client at that level (fast). NYX=FILE tests that binary instead of
# building ./cmd/nyx. KEEP=1 leaves the logs.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C CGO_ENABLED=0

why=""
[ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare -n true 2>/dev/null || why="needs root, namespaces and iproute2"
[ -e /dev/net/tun ] || why="needs /dev/net/tun"
[ -z "$why" ] || { echo "skipped: $why"; exit 0; }

work=$(mktemp -d "${TMPDIR:-/tmp}/nyx-cluster.XXXXXX") || exit 1
. test/phases.sh
trap 'stop; [ -n "${KEEP:-}" ] && echo "logs: $work" || rm -rf "$work"' EXIT

if [ -n "${NYX:-}" ]; then cp "$NYX" "$work/nyx" || exit 1; else go build -o "$work/nyx" ./cmd/nyx || exit 1; fi
go build -o "$work/" ./test/httpsink ./test/probe ./test/slowwire || exit 1
export XDG_CONFIG_HOME=$work # or nyx status would miss those that are killed here
level=${LEVEL:-fast} size=$((${SIZE:-200} << 20))

# One way, as between Europe, the east and the west of America; the client is
# nearest to the first region, the targets to the second.
DELAYS=${DELAYS:-"
between region-1 region-2 delay 40ms
between region-1 region-3 delay 70ms
between region-2 region-3 delay 35ms
between home region-1 delay 8ms
between home region-2 delay 45ms
between home region-3 delay 75ms
between away region-1 delay 40ms
between away region-2 delay 5ms
between away region-3 delay 35ms
between home away delay 50ms
"}
places=(region-1 region-2 region-3 home away)
home=10.200.0.1 away=10.201.0.1
declare -A holder pid place

# network makes the files: node n of the network has the address 10.n.0.1, what
# serves the directory 10.100.p.1, with the last two digits of its port.
network() {
	local file name n
	"$work/nyx" network init --dir "$work/net" --name cluster --allow-private --port 9410 \
		--authorities 3 --threshold 2 --replicas 2 --stream 4 --mix 12 --regions 3 >/dev/null || return
	grep -rlZ '127\.' "$work/net" | xargs -0 sed -i \
		-e 's/127\.0\.0\.1:94\([0-9][0-9]\)/10.100.\1.1:94\1/g' \
		-e 's/127\.\([1-9][0-9]*\)\.0\.1/10.\1.0.1/g'
	declare -gA addresses=([home]=$home [away]=$away)
	names=()
	for file in "$work"/net/*/node.toml; do
		name=$(basename "$(dirname "$file")")
		names+=("$name")
		case $name in
		authority-* | witness-* | replica-* | control-*) place[$name]=region-${name##*-} ;;
		*) place[$name]=$(sed -n 's/^region = "\(.*\)"/\1/p' "$file") ;;
		esac
		addresses[${place[$name]}]+=" $(sed -n 's/^listen = "\(10\.[0-9.]*\):.*/\1/p' "$file" | head -n 1)"
	done
	for n in "${places[@]}"; do echo "region $n ${addresses[$n]}"; done >"$work/regions"
	echo "$DELAYS" >>"$work/regions"
}

# wires makes the namespaces and what lies between them.
wires() {
	local p a
	"$work/slowwire" -regions "$work/regions" -ready "$work/wired" &
	children+=($!)
	wait_for 10 test -e "$work/wired" || return
	for p in "${places[@]}"; do
		unshare -n sleep 100000 &
		holder[$p]=$!
		children+=($!)
		wait_for 10 eval '[ "$(readlink /proc/'$!'/ns/net)" != "$(readlink /proc/self/ns/net)" ]' || return
		ip link set "$p" netns "${holder[$p]}" || return
		in_place "$p" ip link set lo up && in_place "$p" ip link set "$p" up || return
		for a in ${addresses[$p]}; do in_place "$p" ip addr add "$a/32" dev "$p" || return; done
		in_place "$p" ip route add 10.0.0.0/8 dev "$p" src "${addresses[$p]##* }" || return
	done
}

in_place() { nsenter -n -t "${holder[$1]}" "${@:2}"; }
# become is in_place for what runs in the background: its process is the program's.
become() { exec nsenter -n -t "${holder[$1]}" "${@:2}"; }

# begin NAME...: starts these nodes.
begin() {
	local name
	for name; do
		become "${place[$name]}" "$work/nyx" node --quiet --config "$work/net/$name/node.toml" 2>>"$work/$name.log" &
		pid[$name]=$!
		children+=($!)
	done
}

# fell NAME...: kills these nodes without a word.
fell() {
	local name
	for name; do kill -9 "${pid[$name]}"; done
	for name; do wait "${pid[$name]}" 2>/dev/null; done
}

# client NAME: a proxy at home on a port of its own, ready; sets socks.
port=9150
client() {
	socks=127.0.0.1:$((++port))
	become home "$work/nyx" proxy --quiet --level "$level" --network "$work/net/network.toml" --socks "$socks" --ready "$work/ready-$port" 2>>"$work/$1.log" &
	user=$!
	children+=($!)
	wait_for "${2:-60}" test -s "$work/ready-$port"
}

probe() { in_place home "$work/probe" -socks "$socks" "$@" 2>&1; }

# spent NAME: its CPU time in ticks.
spent() { awk '{ print $14 + $15 }' "/proc/${pid[$1]}/stat" 2>/dev/null || echo 0; }

# busiest KIND: the nodes of a kind, that which has worked most in the last two
# seconds first. The exit of a transfer is the Stream node with a connection to
# the target.
busiest() {
	local name
	declare -A before
	for name in "${names[@]}"; do [[ $name == $1-* ]] && before[$name]=$(spent "$name"); done
	sleep 2
	for name in "${!before[@]}"; do echo "$(($(spent "$name") - before[$name])) $name"; done | sort -rn | cut -d' ' -f2
}

exit_name() {
	local name
	for name in stream-1 stream-2 stream-3 stream-4; do
		in_place "${place[$name]}" ss -Htnp state established "dport = :8080" | grep -q "pid=${pid[$name]}," && echo "$name" && return
	done
}

# during NAME STALL CHOOSE...: a transfer is under way, the nodes that CHOOSE
# prints are killed, the transfer ends with every byte and no longer pause than
# STALL ms. The nodes are started again.
during() {
	local what=$1 most=$2 victims transfer status stall
	shift 2
	probe -download "http://$away:8080/$size" >"$work/said" &
	transfer=$!
	sleep 3
	victims=$("$@")
	if ! kill -0 $transfer 2>/dev/null; then
		result 1 "$what" "the transfer was over before: $(cat "$work/said")"
		return
	fi
	if [ -z "$victims" ]; then
		wait $transfer
		echo "not done: $what, which is the transfer's exit"
		return
	fi
	fell $victims
	wait $transfer
	status=$?
	stall=$(sed -n 's/.*longest stall \([0-9]*\) ms.*/\1/p' "$work/said")
	[ $status = 0 ] && grep -q " $sum " "$work/said" && [ "${stall:-99999}" -lt "$most" ]
	result $? "$what (stall under $most ms)" "$(echo $victims): $(sed "s/ $sum / /" "$work/said")"
	begin $victims
}

# A transfer's session may be two routes of other nodes by now; a node that
# carries little is no test.
first() { "$@" | head -n 1; }
two() { "$@" | head -n 2; }
not_exit() { local e; e=$(exit_name); "$@" | grep -vx "${e:-none}"; }

run_each() {
	local said
	said=$(probe -download "http://$away:8080/$size") && [[ $said == "$size bytes $sum "* ]]
	result $? "a transfer down" "$said"
	said=$(probe -upload "$size" "http://$away:$sink/put")
	result $? "a transfer up" "$said"
	said=$(probe -requests 500 -inflight 16 "http://$away:8080/small")
	result $? "500 requests" "$said"
}

run_mix() {
	for n in 1 2 3; do during "kill -9 of the Mix node that carries most" 1000 first busiest mix; done
}
run_pair() { during "kill -9 of two Mix nodes at once" 1000 two busiest mix; }
run_entry() { during "kill -9 of the entry" 1000 first not_exit busiest stream; }

run_exit() {
	local transfer gone from said
	probe -download "http://$away:8080/$size" >"$work/said" &
	transfer=$!
	sleep 3
	gone=$(exit_name)
	fell "$gone"
	from=$(date +%s%N)
	said=$(in_place home curl -sf --max-time 30 --socks5-hostname "$socks" "http://$away:8080/small")
	[ "$said" = hello ]
	result $? "kill -9 of the exit, $gone: the next request" "after $((($(date +%s%N) - from) / 1000000)) ms"
	wait $transfer
	[ $? != 0 ]
	result $? "the transfer ends with an error" "$(paste -sd' ' "$work/said")"
	begin "$gone"
}

run_authority() {
	during "kill -9 of an authority" 1000 echo authority-1
	fell authority-2
	joins "a new client while an authority is dead"
	begin authority-2
}

run_council() {
	during "kill -9 of all authorities" 1000 echo authority-1 authority-2 authority-3
	fell authority-1 authority-2 authority-3
	joins "a new client while all authorities are dead"
	begin authority-1 authority-2 authority-3
}

run_replicas() {
	during "kill -9 of all replicas" 1000 echo replica-1 replica-2
	fell replica-1 replica-2
	joins "a new client while all replicas are dead"
	begin replica-1 replica-2
}

# joins NAME: a client that has never been here comes and is answered.
joins() {
	local from old=$user oldsocks=$socks said
	from=$(date +%s%N)
	client newcomer 30
	said=$(in_place home curl -sf --max-time 30 --socks5-hostname "$socks" "http://$away:8080/small")
	[ "$said" = hello ]
	result $? "$1" "answered after $((($(date +%s%N) - from) / 1000000)) ms"
	kill "$user"
	user=$old socks=$oldsocks
}

run_rest() {
	local name
	for name in "${names[@]}"; do
		during "kill -9 of $name" 1000 not_exit echo "$name"
	done
}

network && wires || { echo "the network could not be made; see $work" >&2; KEEP=1; exit 1; }
mkdir -p "$work/www" "$work/nginx"
echo hello >"$work/www/small"
head -c "$size" /dev/urandom >"$work/www/$size"
sum=$(sha256sum "$work/www/$size" | cut -d' ' -f1)
cat >"$work/nginx.conf" <<CONF
user root; daemon off; pid $work/nginx/pid; error_log $work/nginx/error.log; worker_processes 1;
events { worker_connections 4096; }
http { access_log off; sendfile on; client_body_temp_path $work/nginx/body; proxy_temp_path $work/nginx/proxy;
	fastcgi_temp_path $work/nginx/fastcgi; uwsgi_temp_path $work/nginx/uwsgi; scgi_temp_path $work/nginx/scgi;
	server { listen $away:8080; root $work/www; } }
CONF
PATH=$PATH:/usr/sbin become away nginx -p "$work/nginx" -c "$work/nginx.conf" -e "$work/nginx/error.log" &
children+=($!)
become away "$work/httpsink" -host $away -ready "$work/sink" &
children+=($!)
wait_for 20 test -s "$work/sink" && wait_for 20 in_place away curl -sf "http://$away:8080/small" || { echo "the targets do not serve" >&2; exit 1; }
sink=$(sed 's/^[^:]*:\([0-9]*\) .*/\1/' "$work/sink")

begin "${names[@]}"
from=$(date +%s%N)
client user
result $? "${#names[@]} processes and a client" "ready after $((($(date +%s%N) - from) / 1000000)) ms"
runs=("$@")
[ ${#runs[@]} -gt 0 ] || runs=(each mix pair entry exit authority council replicas rest)
for run in "${runs[@]}"; do
	declare -F "run_$run" >/dev/null || { echo "there is no phase $run; see the head of $0" >&2; exit 2; }
	"run_$run"
done
finish

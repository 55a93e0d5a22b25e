#!/usr/bin/env bash
# The long runs: what takes too long, or wants too much of a machine, for
# every change. Prints a line per run and, at the end, "N passed, N failed".
#
#   test/long.sh            all of them, some 20 minutes
#   test/long.sh kill wan   two of them
#
#   transfer  1 GiB down and up through separate processes, equal hashes
#   short     10,000 short requests, a new connection for each
#   ssh       OpenSSH through the proxy: a command, and 64 MiB through it
#   kill      each Mix node, and each Stream node as an entry, killed -9 in
#             turn during a transfer of 1 GiB that it carries
#   exit      the exit of a transfer killed -9
#   idle      325 s without traffic, then a request
#   wan       level STANDARD with 100 ms of network round trip between client
#             and network, the class of 100 in use
#   faults    100 MiB at level FAST over 100 Mbit/s and 100 ms, with loss, with
#             jitter, through a change of the client's address, and through a
#             cut to 5 Mbit/s; TCP over the same wire beside it.
#             FAULTS="loss cut" runs two of them
#
# Needs nginx, curl, nc (OpenBSD) and ss; ssh, wan and faults need root and their
# programs (openssh-server; iproute2, /dev/net/tun or netem; iperf3), and are
# skipped without.
# NYX=FILE tests that binary instead of building ./cmd/nyx.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C CGO_ENABLED=0

# As root all runs in a network namespace of its own: nothing of this machine
# is touched, and nothing outside is reached.
if [ "${NYX_LONG:-}" = "" ]; then
	work=$(mktemp -d "${TMPDIR:-/tmp}/nyx-long.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
	if [ -n "${NYX:-}" ]; then cp "$NYX" "$work/nyx" || exit 1; else go build -o "$work/nyx" ./cmd/nyx || exit 1; fi
	go build -o "$work/" ./test/httpsink ./test/probe ./test/slowwire 2>/dev/null || go build -o "$work/" ./test/httpsink ./test/probe || exit 1
	export NYX_LONG=$work
	if unshare -n true 2>/dev/null; then
		unshare -n bash -c 'ip link set lo up && exec bash "$0" "$@"' "test/long.sh" "$@"
	else
		bash test/long.sh "$@"
	fi
	exit $?
fi
work=$NYX_LONG
runs=("$@")
[ ${#runs[@]} -gt 0 ] || runs=(transfer short ssh kill exit idle wan faults)

. test/phases.sh
. test/wire.sh

mapfile -t free < <("$work/httpsink" -free 3)
socks=127.0.0.1:${free[0]} http=127.0.0.1:${free[1]} sshd_port=${free[2]}

mkdir -p "$work/www" "$work/nginx"
echo hello >"$work/www/small"
head -c 2500 /dev/zero >"$work/www/page"
head -c $((1 << 30)) /dev/urandom >"$work/www/gigabyte"
gigabyte=$(sha256sum "$work/www/gigabyte" | cut -d' ' -f1)
cat >"$work/nginx.conf" <<CONF
$([ "$(id -u)" = 0 ] && echo 'user root;')
daemon off; pid $work/nginx/pid; error_log $work/nginx/error.log; worker_processes 1;
events { worker_connections 4096; }
http {
	access_log off; sendfile on; keepalive_requests 100000;
	client_body_temp_path $work/nginx/body; proxy_temp_path $work/nginx/proxy;
	fastcgi_temp_path $work/nginx/fastcgi; uwsgi_temp_path $work/nginx/uwsgi; scgi_temp_path $work/nginx/scgi;
	server { listen $http backlog=4096; root $work/www; }
}
CONF
PATH=$PATH:/usr/sbin nginx -p "$work/nginx" -c "$work/nginx.conf" -e "$work/nginx/error.log" &
children+=($!)
"$work/httpsink" -ready "$work/sink" &
children+=($!)
wait_for 20 test -s "$work/sink" && wait_for 20 curl -sf "http://$http/small" || { echo "the targets do not serve" >&2; exit 1; }
read -r sink _ <"$work/sink"

up() { # up [FLAG...]: starts a network of processes; sets nyx
	rm -f "$work/ready"
	"$work/nyx" up --processes --data "$work/data" --socks "$socks" --ready "$work/ready" "$@" >"$work/up.log" 2>&1 &
	nyx=$!
	children+=("$nyx")
	wait_for 60 test -s "$work/ready" || { result 1 "nyx up is ready" "not in 60 s: $(tail -n 2 "$work/up.log" | paste -sd' ')"; return 1; }
}
down() { kill "$nyx" 2>/dev/null; wait "$nyx" 2>/dev/null; }
probe() { "$work/probe" -socks "$socks" "$@" 2>&1; }

run_transfer() {
	up || return
	local said
	said=$(probe -download "http://$http/gigabyte") && [[ $said == "$((1 << 30)) bytes $gigabyte "* ]]
	result $? "1 GiB down" "$said"
	said=$(probe -upload $((1 << 30)) "http://$sink/put")
	result $? "1 GiB up" "$said"
	down
}

run_short() {
	up || return
	local said
	said=$(probe -requests 10000 -inflight 64 -fresh "http://$http/small")
	result $? "10,000 short requests, a connection each" "$said"
	down
}

run_ssh() {
	local sshd said sum
	sshd=$(PATH=$PATH:/usr/sbin command -v sshd) && command -v ssh >/dev/null && [ "$(id -u)" = 0 ] ||
		{ skip ssh "needs root, ssh and sshd"; return; }
	mkdir -p "$work/ssh" /run/sshd
	ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/host" && ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/id" || return
	cp "$work/ssh/id.pub" "$work/ssh/authorized"
	"$sshd" -D -f /dev/null -h "$work/ssh/host" -o "ListenAddress=127.0.0.1:$sshd_port" -o StrictModes=no -o UsePAM=no \
		-o "AuthorizedKeysFile=$work/ssh/authorized" -o PermitRootLogin=yes -E "$work/ssh/log" &
	children+=($!)
	up || return
	remote() {
		ssh -F /dev/null -i "$work/ssh/id" -p "$sshd_port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
			-o "ProxyCommand=nc -X 5 -x $socks %h %p" root@127.0.0.1 "$@"
	}
	wait_for 10 nc -z 127.0.0.1 "$sshd_port"
	said=$(remote echo from the other side)
	[ "$said" = "from the other side" ]
	result $? "ssh: a command" "$said"
	sum=$(head -c $((64 << 20)) "$work/www/gigabyte" | sha256sum)
	said=$(head -c $((64 << 20)) "$work/www/gigabyte" | remote sha256sum)
	[ "$said" = "$sum" ]
	result $? "ssh: 64 MiB through standard input, ended by its end" "$said"
	said=$(remote head -c $((64 << 20)) "$work/www/gigabyte" | sha256sum)
	[ "$said" = "$sum" ]
	result $? "ssh: 64 MiB through standard output" "$said"
	down
}

# carried PID: CPU time of a process in ticks: who carries has most of it.
carried() { awk '{ print $14 + $15 }' "/proc/$1/stat" 2>/dev/null || echo 0; }

# process NAME: the process of a node of the running network.
process() { sed -n "s/.*$1 is process \([0-9]*\).*/\1/p" "$work/up.log"; }

# exit_process: the process that holds the connection to the target.
exit_process() { ss -Htnp state established "dport = :${http##*:}" | sed -n 's/.*"nyx",pid=\([0-9]*\),.*/\1/p' | head -n 1; }

# Routes are drawn: a node that carries nothing is no test, and then the whole
# network is started again, until the node is on the route in use.
run_kill() {
	local name pid try used transfer status stall
	for name in mix-1 mix-2 mix-3 mix-4 mix-5 mix-6 stream-1 stream-2 stream-3; do
		for ((try = 0; try < 20; try++)); do
			up || return
			pid=$(process $name)
			probe -download "http://$http/gigabyte" >"$work/said" &
			transfer=$!
			sleep 2
			used=$(carried "$pid")
			[ "$used" -ge 20 ] && [ "$pid" != "$(exit_process)" ] && break
			kill $transfer
			wait $transfer 2>/dev/null
			down
		done
		if [ $try = 20 ]; then
			result 1 "kill $name" "it was on no route in 20 networks"
			continue
		fi
		kill -9 "$pid"
		wait $transfer
		status=$?
		stall=$(sed -n 's/.*longest stall \([0-9]*\) ms.*/\1/p' "$work/said")
		[ $status = 0 ] && grep -q " $gigabyte " "$work/said" && [ "${stall:-9999}" -lt 2000 ]
		result $? "kill -9 of $name, which carries 1 GiB" "$(cat "$work/said")"
		down
	done
}

# Nobody can keep a connection whose other end has died; the next must work.
run_exit() {
	up || return
	local pid from took said
	probe -download "http://$http/gigabyte" >"$work/said" &
	local transfer=$!
	sleep 2
	pid=$(exit_process)
	kill -9 "$pid"
	from=$(date +%s%N)
	said=$(curl -sf --max-time 60 --socks5-hostname "$socks" "http://$http/small")
	took=$((($(date +%s%N) - from) / 1000000))
	[ "$said" = hello ] && [ $took -lt 3000 ]
	result $? "kill -9 of the exit in use: the next request" "answered after $took ms"
	wait $transfer
	[ $? != 0 ]
	result $? "kill -9 of the exit in use: the transfer ends with an error" "after $((($(date +%s%N) - from) / 1000000)) ms: $(paste -sd' ' "$work/said")"
	down
}

run_idle() {
	up || return
	curl -sf --socks5-hostname "$socks" "http://$http/small" >/dev/null
	sleep 325
	local said
	said=$(curl -sf --max-time 20 --socks5-hostname "$socks" -o /dev/null -w '%{http_code} in %{time_total} s' "http://$http/small")
	result $? "325 s idle, then a request" "$said"
	down
}

run_wan() {
	local why said rate before
	why=$(wire_can) || { skip wan "$why"; return; }
	wire_open delay 50ms limit 16384 && wire_join wan --level standard --class 100 || return
	# out: cells with content that the exits have sent back.
	out() { for n in 1 2 3; do curl -sf "http://127.0.0.1:$((9490 + n))/metrics"; done | awk '/^nyx.*real_out/ { n += $NF } END { print n + 0 }'; }
	inside "$work/probe" -socks "$socks" -requests 20 "http://$http/small" >/dev/null
	for rate in 5 ${WAN_RATE:-23}; do
		before=$(out)
		said=$(inside "$work/probe" -socks "$socks" -requests $((rate * 60)) -inflight 16 -rate "$rate" "http://$http/page" 2>&1) &&
			awk '{ for (i = 1; i < NF; i++) { if ($i == "P95") p95 = $(i+1); if ($i == "P99") p99 = $(i+1) } } END { exit !(p95 <= 350 && p99 <= 500) }' <<<"$said"
		result $? "STANDARD, 100 ms of round trip ($wire), $rate requests per second, class used to $((($(out) - before) / 60)) % (P95 ≤ 350, P99 ≤ 500 ms)" "$said"
	done
	wire_leave
	wire_close
}

# tcp CONTROL FLAG...: what iperf3 moves through the wire, towards the client, in
# Mbit/s, with a congestion control of the kernel's.
tcp() {
	local control=$1
	shift
	inside timeout 600 iperf3 -c 10.0.0.1 -R -f m -C "$control" "$@" | awk -v control="$control" '/receiver/ { print control, $(NF-2) }'
}

# both_tcp: with each of the two controls that the kernel may have.
both_tcp() { for control in cubic bbr; do tcp $control -t 20; done | paste -sd' '; }

# faulty NAME TCP: 100 MiB through Nyx; what happens to the wire meanwhile is in
# the background. Goodput in Mbit/s beside TCP's.
faulty() {
	local said rate
	said=$(inside "$work/probe" -socks "$socks" -download "http://$http/hundred" 2>&1)
	rate=$(awk '{ for (i = 1; i < NF; i++) if ($i == "MB/s,") r = $(i-1) } END { print r * 8 }' <<<"$said")
	[[ $said == "$((100 << 20)) bytes $hundred "* ]]
	result $? "100 MiB, $1 ($wire)" "$rate Mbit/s, TCP $2; longest stall ${said##*stall }"
}

run_faults() {
	local why fault good="delay 50ms rate 100mbit limit 1440" # room for 100 ms beside what is under way
	why=$(wire_can) || { skip faults "$why"; return; }
	command -v iperf3 >/dev/null || { skip faults "needs iperf3"; return; }
	head -c $((100 << 20)) "$work/www/gigabyte" >"$work/www/hundred"
	hundred=$(sha256sum "$work/www/hundred" | cut -d' ' -f1)
	wire_open $good && wire_join faults --level fast || return
	iperf3 -s >/dev/null 2>&1 &
	children+=($!)
	wait_for 10 inside nc -z 10.0.0.1 5201
	for fault in ${FAULTS:-clean shallow loss jitter both address cut}; do
		wire_set $good
		case $fault in
		clean) faulty "100 ms, 100 Mbit/s, room for 100 ms in the queue" "$(both_tcp)" ;;
		shallow) wire_set delay 50ms rate 100mbit limit 700 && faulty "the same with room for 23 ms in the queue" "$(both_tcp)" ;;
		loss) wire_set $good loss 5% && faulty "5 % loss each way" "$(both_tcp)" ;;
		jitter) wire_set delay 50ms 20ms rate 100mbit limit 1440 && faulty "20 ms of jitter, reordering" "$(both_tcp)" ;;
		both) wire_set delay 50ms 20ms rate 100mbit limit 1440 loss 5% && faulty "5 % loss, 20 ms of jitter, reordering" "$(both_tcp)" ;;
		address)
			{ sleep 4; inside ip link set nyxb down; sleep 3; wire_address 10.200.0.2; } &
			faulty "the interface goes for 3 s and returns with another address" "ends with its address"
			wire_address 10.200.0.1
			;;
		cut)
			cut() { sleep 5; wire_set delay 50ms rate 5mbit limit 150; }
			cut &
			local slow
			slow=$(tcp cubic -n 100M)
			wait $!
			wire_set $good
			cut &
			faulty "100 Mbit/s, after 5 s 5 Mbit/s" "$slow"
			wait $!
			;;
		*) result 1 "$fault" "there is no such fault" ;;
		esac
	done
	wire_leave
	wire_close
}

for run in "${runs[@]}"; do
	declare -F "run_$run" >/dev/null || { echo "there is no run $run; see the head of $0" >&2; exit 2; }
	before=$((passed + failed + skipped))
	"run_$run"
	[ $((passed + failed + skipped)) -gt $before ] || result 1 "$run" "it did not start"
done
finish

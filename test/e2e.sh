#!/usr/bin/env bash
# End-to-end test: a whole Nyx network on this machine, used by ordinary
# programs through its proxy. Prints a line per phase and, at the end,
# "N passed, N failed".
#
# Needs nginx, curl, nc (OpenBSD), openssl, ss. The capture needs tcpdump and
# root; as root everything runs in a network namespace of its own, so that
# nothing of this machine is touched, and nothing outside is reached.
#
# NYX=FILE tests that binary instead of building ./cmd/nyx.
set -uo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

if [ "${1:-}" != inside ]; then
	work=$(mktemp -d "${TMPDIR:-/tmp}/nyx-e2e.XXXXXX") || exit 1
	export work
	trap 'rm -rf "$work"' EXIT
	mkdir -p "$work/bin"
	export CGO_ENABLED=0
	if [ -n "${NYX:-}" ]; then
		cp "$NYX" "$work/bin/nyx" || exit 1
	else
		go build -o "$work/bin/" ./cmd/nyx || exit 1
	fi
	go build -o "$work/bin/" ./test/httpsink ./test/pcapcheck || exit 1
	if unshare -n true 2>/dev/null; then
		NAMESPACE=1 unshare -n bash test/e2e.sh inside
	else
		NAMESPACE=0 bash test/e2e.sh inside
	fi
	exit $?
fi

. test/phases.sh

ms() { echo $(($(date +%s%N) / 1000000)); }

# start_nyx LEVEL [FLAG...]: starts a network; sets nyx, and waits until it is ready.
start_nyx() {
	rm -f "$work/ready.json"
	"$work/bin/nyx" up --data "$work/data-$1" --socks "127.0.0.1:$socks" --level "$1" \
		--ready "$work/ready.json" --quiet "${@:2}" >"$work/nyx-$1.log" 2>&1 &
	nyx=$!
	children+=("$nyx")
	wait_for 60 test -s "$work/ready.json"
}

# stop_nyx: SIGTERM; succeeds if it ended with status 0 within 5 seconds.
stop_nyx() {
	local from status
	from=$(ms)
	kill -TERM "$nyx" || return 1
	if ! wait_for 20 not_running "$nyx"; then
		kill -KILL "$nyx"
		wait "$nyx"
		stopped="not within 20 s"
		return 1
	fi
	stopped=$(($(ms) - from))
	wait "$nyx"
	status=$?
	stopped="$stopped ms, status $status"
	[ $(($(ms) - from)) -le 5000 ] && [ "$status" = 0 ]
}

not_running() { ! kill -0 "$1" || grep -q '^State:.Z' "/proc/$1/status"; }

field() { sed -n 's/.*"'"$1"'" *: *"\{0,1\}\([^",}]*\).*/\1/p' "$work/ready.json"; }

sha() { sha256sum "$1" | cut -d' ' -f1; }

via() { curl --silent --show-error --fail --max-time 240 --socks5-hostname "127.0.0.1:$socks" "$@"; }

# --- what is served -----------------------------------------------------------

if [ "$NAMESPACE" = 1 ]; then
	ip link set lo up || exit 1
fi
mapfile -t free < <("$work/bin/httpsink" -free 3)
socks=${free[0]} http=${free[1]} https=${free[2]}

mkdir -p "$work/www" "$work/nginx"
head -c $((64 << 20)) /dev/urandom >"$work/www/big"
head -c $((1 << 20)) /dev/urandom >"$work/www/medium"
echo "hello from behind nyx" >"$work/www/small"
marker="planted-$(head -c 12 /dev/urandom | sha256sum | cut -c1-24)"
for ((i = 0; i < 65536; i++)); do echo "$marker"; done >"$work/www/marked"
big=$(sha "$work/www/big") medium=$(sha "$work/www/medium") marked=$(sha "$work/www/marked")

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
	-addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
	-keyout "$work/nginx/key.pem" -out "$work/nginx/cert.pem" 2>"$work/openssl.log" || { cat "$work/openssl.log"; exit 1; }

cat >"$work/nginx/nginx.conf" <<CONF
$([ "$(id -u)" = 0 ] && echo 'user root;')
daemon off;
pid $work/nginx/pid;
error_log $work/nginx/error.log;
worker_processes 1;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	client_body_temp_path $work/nginx/body;
	proxy_temp_path $work/nginx/proxy;
	fastcgi_temp_path $work/nginx/fastcgi;
	uwsgi_temp_path $work/nginx/uwsgi;
	scgi_temp_path $work/nginx/scgi;
	server {
		listen 127.0.0.1:$http backlog=4096;
		listen 127.0.0.1:$https ssl;
		ssl_certificate $work/nginx/cert.pem;
		ssl_certificate_key $work/nginx/key.pem;
		root $work/www;
	}
}
CONF
PATH=$PATH:/usr/sbin nginx -p "$work/nginx" -c "$work/nginx/nginx.conf" -e "$work/nginx/error.log" &
children+=($!)
"$work/bin/httpsink" -ready "$work/sink" 2>"$work/sink.log" &
children+=($!)
wait_for 20 test -s "$work/sink"
wait_for 20 curl --silent --fail "http://127.0.0.1:$http/small"
result $? "targets serve" "nginx and an upload server on loopback"
read -r sink_http sink_tcp <"$work/sink"

# --- phases -------------------------------------------------------------------

from=$(ms)
start_nyx fast
if ! result_ready=$(field socks) || [ "$result_ready" != "127.0.0.1:$socks" ]; then
	result 1 "nyx up is ready" "no ready file that names 127.0.0.1:$socks within 60 s"
	tail -n 20 "$work/nyx-fast.log"
	finish
fi
result 0 "nyx up is ready" "$(($(ms) - from)) ms"

[ "$(field pid)" = "$nyx" ]
result $? "the ready file names the process"

metrics=$(sed -n 's/.*"metrics" *: *"\([^"]*\)".*/\1/p' "$work/ready.json")
if [ -n "$metrics" ]; then
	curl --silent --fail --max-time 10 "$metrics" >"$work/metrics"
	result $? "metrics are served" "$(grep -vc '^#' "$work/metrics") series"
fi

[ "$(via "http://localhost:$http/small")" = "hello from behind nyx" ]
result $? "HTTP over SOCKS5, by name"

[ "$(via --cacert "$work/nginx/cert.pem" "https://localhost:$https/small")" = "hello from behind nyx" ]
result $? "HTTPS over SOCKS5, by name"

speed=$(via --output "$work/got" --write-out '%{speed_download}' "http://127.0.0.1:$http/big") && [ "$(sha "$work/got")" = "$big" ]
result $? "download of 64 MiB is exact" "$((${speed:-0} / 1000000)) MB/s"

speed=$(via --cacert "$work/nginx/cert.pem" --output "$work/got" --write-out '%{speed_download}' "https://127.0.0.1:$https/big") && [ "$(sha "$work/got")" = "$big" ]
result $? "download of 64 MiB over TLS is exact" "$((${speed:-0} / 1000000)) MB/s"

speed=$(via --output "$work/got" --write-out '%{speed_upload}' --upload-file "$work/www/big" -H 'Expect:' "http://$sink_http/put") &&
	[ "$(cat "$work/got")" = "$big $((64 << 20))" ]
result $? "upload of 64 MiB is exact" "$((${speed:-0} / 1000000)) MB/s"

# 64 downloads at once, each on a connection of its own.
for ((i = 0; i < 64; i++)); do
	printf 'url = "http://127.0.0.1:%d/medium?%d"\noutput = "%s/par-%d"\n' "$http" $i "$work" $i
done >"$work/parallel"
from=$(ms)
via --parallel --parallel-max 64 --header 'Connection: close' --config "$work/parallel" 2>"$work/parallel.log"
status=$?
took=$(($(ms) - from))
good=0
for ((i = 0; i < 64; i++)); do
	[ -f "$work/par-$i" ] && [ "$(sha "$work/par-$i")" = "$medium" ] && good=$((good + 1))
	rm -f "$work/par-$i"
done
[ $status = 0 ] && [ $good = 64 ]
result $? "64 parallel downloads of 1 MiB are exact" "$good of 64 in $took ms"

# 1000 short requests, 64 in flight, a new connection for each.
for ((i = 0; i < 1000; i++)); do
	printf 'url = "http://localhost:%d/small?%d"\noutput = "%s/short-%d"\n' "$http" $i "$work" $i
done >"$work/short"
from=$(ms)
via --parallel --parallel-max 64 --header 'Connection: close' --config "$work/short" 2>"$work/short.log"
status=$?
took=$(($(ms) - from))
good=$(cat "$work"/short-[0-9]* 2>/dev/null | grep -cx 'hello from behind nyx')
rm -f "$work"/short-[0-9]*
[ $status = 0 ] && [ "$good" = 1000 ]
result $? "1000 short requests" "$good of 1000 in $took ms, $((1000000 / (took + 1))) per second"

# The target answers only when the sender's end has arrived.
answer=$(timeout 60 nc -N -X 5 -x "127.0.0.1:$socks" "${sink_tcp%:*}" "${sink_tcp##*:}" <"$work/www/medium")
[ "$answer" = "$medium $((1 << 20))" ]
result $? "half-close passes (nc -X 5)"

[ "$(curl --silent --show-error --fail --max-time 60 --proxy "http://127.0.0.1:$socks" --cacert "$work/nginx/cert.pem" "https://localhost:$https/small")" = "hello from behind nyx" ]
result $? "HTTPS over HTTP CONNECT"

[ "$(curl --silent --show-error --fail --max-time 60 --proxy "http://127.0.0.1:$socks" "http://localhost:$http/small" "http://localhost:$http/small" | grep -cx 'hello from behind nyx')" = 2 ]
result $? "plain HTTP through the HTTP proxy"

[ "$(curl --silent --show-error --fail --max-time 60 --proxy "http://user:word@127.0.0.1:$socks" --header 'Transfer-Encoding: chunked' --upload-file "$work/www/medium" "http://$sink_http/put")" = "$medium $((1 << 20))" ]
result $? "chunked upload through the HTTP proxy, with credentials"

[ "$(curl --silent --show-error --fail --max-time 60 --proxy "socks5h://alice:secret@127.0.0.1:$socks" "http://localhost:$http/small")" = "hello from behind nyx" ]
result $? "SOCKS5 with credentials (isolation)"

from=$(ms)
curl --silent --max-time 60 --socks5-hostname "127.0.0.1:$socks" "http://127.0.0.1:1/" 2>"$work/refused"
status=$?
took=$(($(ms) - from))
[ $status = 97 ] && [ $took -lt 10000 ]
result $? "a refused target is told" "curl status $status after $took ms"

# Capture: the datagrams of Nyx have one size and nothing of the content.
capture() {
	command -v tcpdump >/dev/null && [ "$(id -u)" = 0 ] || return 77
	local dump ports
	# A packet joined for segmentation offload would be seen as one; in a
	# namespace of our own the kernel can be told to segment before the capture.
	if [ "$NAMESPACE" = 1 ]; then ip link set lo gso_max_segs 1 2>/dev/null; fi
	ports=$(ss -Hulnp | grep "pid=$nyx," | awk '{print $4}' | sed 's/.*://' | sort -un | paste -sd,)
	[ -n "$ports" ] || { detail="nyx has no UDP socket"; return 1; }
	tcpdump -i lo -Z root -s 0 -B 65536 -w "$work/lo.pcap" 'udp or tcp' 2>"$work/tcpdump.log" &
	dump=$!
	children+=("$dump")
	wait_for 20 grep -q 'listening on' "$work/tcpdump.log" || { detail=$(cat "$work/tcpdump.log"); return 1; }
	via --output "$work/got" "http://127.0.0.1:$http/marked" && [ "$(sha "$work/got")" = "$marked" ] || return 1
	[ "$(via --upload-file "$work/www/marked" -H 'Expect:' "http://$sink_http/put" | cut -d' ' -f1)" = "$marked" ] || return 1
	kill -INT "$dump"
	wait "$dump" 2>/dev/null
	detail=$("$work/bin/pcapcheck" -marker "$marker" -ports "$ports" "$work/lo.pcap" 2>&1) || return 1
	if ! grep -q '^0 packets dropped by kernel' "$work/tcpdump.log"; then
		detail="$detail; $(grep 'dropped by kernel' "$work/tcpdump.log")"
	fi
}
detail=
capture
status=$?
if [ $status = 77 ]; then
	skip "capture of the wire" "needs tcpdump and root"
else
	result $status "on the wire all is 1280 bytes, and the marker is not" "$detail"
	rm -f "$work/lo.pcap"
fi

log_bytes=$(wc -c <"$work/nyx-fast.log")
! grep -q -e "$marker" -e "localhost" -e ":$http" "$work/nyx-fast.log"
result $? "the log names no target" "$log_bytes bytes of log"

stop_nyx
result $? "SIGTERM stops it within 5 s" "$stopped"

! curl --silent --max-time 10 --socks5-hostname "127.0.0.1:$socks" "http://127.0.0.1:$http/small" >/dev/null
result $? "nothing listens afterwards"

start_nyx standard && [ "$(via "http://localhost:$http/small")" = "hello from behind nyx" ]
result $? "HTTP at level standard"
stop_nyx
result $? "SIGTERM stops it within 5 s, again" "$stopped"

# Property 6 on the wire of the running program: within one class, a client's
# link looks the same whether its user is idle or downloads 1 GiB. One capture,
# in which the user does one and the other by turns; what the machine does to the
# timing in the meantime, it does to both (test/pcapcheck).
two_samples() {
	command -v tcpdump >/dev/null && [ "$(id -u)" = 0 ] && [ "$NAMESPACE" = 1 ] || return 77
	start_nyx standard --class 200 || return 1
	client_port=$(ss -Hulnp | grep "pid=$nyx," | awk '{print $4}' | sed -n 's/^127\.0\.0\.1:\(.*\)/\1/p' | head -n 1)
	[ -n "$client_port" ] || { detail="no socket of the client"; return 1; }
	via "http://localhost:$http/small" >/dev/null || return 1
	truncate -s 1G "$work/www/gigabyte"
	sleep 45 # routes that are built ahead stand
	local dump transfer from
	tcpdump -i lo -Z root -s 0 -B 65536 -w "$work/turns.pcap" "udp port $client_port" 2>"$work/tcpdump.log" &
	dump=$!
	children+=("$dump")
	wait_for 20 grep -q 'listening on' "$work/tcpdump.log" || { detail=$(cat "$work/tcpdump.log"); return 1; }
	span() { # span LABEL: what runs has begun, or ended, when it starts
		sleep 1.5
		from=$(date +%s.%N)
		sleep 1.5
		echo "$1 $from $(date +%s.%N)" >>"$work/spans"
	}
	for _ in {1..16}; do
		span idle
		# Not via: a signal must reach curl, and not a shell that waits for it.
		curl --silent --output /dev/null --socks5-hostname "127.0.0.1:$socks" "http://127.0.0.1:$http/gigabyte" &
		transfer=$!
		children+=("$transfer")
		span busy
		kill "$transfer" || { detail="the transfer ended"; return 1; }
		wait "$transfer" 2>/dev/null
	done
	kill -INT "$dump"
	wait "$dump" 2>/dev/null
	detail=$("$work/bin/pcapcheck" -ports "$client_port" -spans "$work/spans" "$work/turns.pcap" 2>&1)
	status=$?
	detail=$(paste -sd' ' <<<"$detail")
	return $status
}
detail=
two_samples
status=$?
if [ $status = 77 ]; then
	skip "idle and busy on the wire" "needs tcpdump, root and a namespace"
else
	result $status "idle and a 1 GiB transfer look alike on the wire" "$detail"
	stop_nyx
	result $? "SIGTERM stops it within 5 s, after transfers" "$stopped"
fi

if [ "$failed" != 0 ]; then
	for log in "$work"/nyx-*.log "$work"/nginx/error.log "$work"/sink.log; do
		[ -s "$log" ] && echo "--- last lines of ${log#"$work"/}" && tail -n 20 "$log"
	done
fi
finish

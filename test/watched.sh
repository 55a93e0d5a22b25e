#!/usr/bin/env bash
# What it costs the data path that somebody watches: downloads of a file through one
# nyx up, each without anybody and with watchers in turn. Prints, of each pair, the
# throughput and the processor time of nyx up for a gigabyte, and at the end the medians
# and the ratios, with an interval in which the median ratio lies 19 times of 20.
#
#   test/watched.sh viewers [PAIRS]    50 pages of the console that are kept up to date
#   test/watched.sh scrapes [PAIRS]    metrics that are read every 5 seconds
#   test/watched.sh nobody  [PAIRS]    nobody either time: what the machine varies by
#
# 24 pairs, some 5 minutes. Needs nginx and curl. NYX=FILE tests that binary instead of
# building ./cmd/nyx.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C CGO_ENABLED=0
mode=${1:-viewers} pairs=${2:-24} viewers=50 of_a_visit=8 size=500 # MB
case $mode in viewers | scrapes | nobody) ;; *) sed -n '2,12s/^# \?//p' "$0" && exit 2 ;; esac

work=$(mktemp -d "${TMPDIR:-/tmp}/nyx-watched.XXXXXX") || exit 1
. test/phases.sh
trap 'unwatch; stop; rm -rf "$work"' EXIT
watching=()

if [ -n "${NYX:-}" ]; then cp "$NYX" "$work/nyx" || exit 1; else go build -o "$work/nyx" ./cmd/nyx || exit 1; fi
go build -o "$work/" ./test/httpsink || exit 1
mapfile -t free < <("$work/httpsink" -free 1)
http=127.0.0.1:${free[0]}

mkdir -p "$work/www" "$work/tmp"
truncate -s "${size}000000" "$work/www/file"
chmod 755 "$work" "$work/www"
cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/tmp/pid; error_log $work/tmp/error.log; worker_processes 1;
events {}
http {
	access_log off; sendfile on; root $work/www;
	client_body_temp_path $work/tmp/body; proxy_temp_path $work/tmp/proxy;
	fastcgi_temp_path $work/tmp/fastcgi; uwsgi_temp_path $work/tmp/uwsgi; scgi_temp_path $work/tmp/scgi;
	server { listen $http; }
}
CONF
PATH=$PATH:/usr/sbin nginx -p "$work" -c "$work/nginx.conf" -e "$work/tmp/error.log" &
children+=($!)
taskset -pc 1-63 $$ >/dev/null && alone=(taskset -c 0) || alone=()
"${alone[@]}" "$work/nyx" up --data "$work/data" --socks 127.0.0.1:0 --ready "$work/ready.json" >"$work/log" 2>&1 &
nyx=$!
children+=("$nyx")
wait_for 60 test -s "$work/ready.json" || { echo "nyx up is not ready:" && tail -3 "$work/log" && exit 1; }
of() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$work/ready.json"; }
socks=$(of socks) metrics=$(of metrics) console=$(of console)
console=${console%/}

# sign_in has visits made, each by a link of its own.
sign_in() {
	local i key
	for ((i = 0; i * of_a_visit < viewers; i++)); do
		key=$("$work/nyx" console --data "$work/data" 2>&1 | sed -n 's/.*enter?key=\([^ ]*\).*/\1/p')
		curl -sf -o "$work/tmp/entered" -c "$work/visit-$i" -H "Origin: $console" -H 'Sec-Fetch-Site: same-origin' \
			--data-urlencode "key=$key" --data-urlencode role=viewer "$console/enter" || return 1
	done
}

watch() {
	local i
	case $mode in
	viewers)
		for ((i = 0; i < viewers; i++)); do
			curl -sfN -o "$work/tmp/live-$i" -b "$work/visit-$((i / of_a_visit))" "$console/live" &
			watching+=($!)
		done
		rest # two updates
		for ((i = 0; i < viewers; i++)); do
			grep -q '^data:' "$work/tmp/live-$i" || { echo "viewer $i is told nothing" && exit 1; }
		done
		;;
	scrapes)
		while curl -sf -o "$work/tmp/metrics" "$metrics"; do sleep 5; done &
		watching+=($!)
		rest
		;;
	nobody) rest ;;
	esac
}

# rest is before each download, with watchers or without: what begins after a pause begins
# otherwise.
rest() { sleep 2.5; }

unwatch() {
	[ ${#watching[@]} -gt 0 ] || return
	kill "${watching[@]}" 2>/dev/null
	wait "${watching[@]}" 2>/dev/null
	watching=()
}

ticks() { cut -d')' -f2 "/proc/$nyx/stat" | awk '{print $12 + $13}'; }

# download prints MB/s, and seconds of processor time for a gigabyte.
download() {
	local before speed
	before=$(ticks)
	speed=$(curl -sf -o /dev/null -w '%{speed_download}' --socks5-hostname "$socks" "http://$http/file") || { echo "a download fails" >&2 && return 1; }
	awk -v speed="$speed" -v ticks=$(($(ticks) - before)) -v hz="$(getconf CLK_TCK)" -v size=$size 'BEGIN {print speed / 1e6, ticks / hz * 1000 / size}'
}

# median prints the median of a column, and what it lies between 19 times of 20.
median() { # median COLUMN
	awk -v c="$1" '{print $c}' "$work/pairs" | sort -g | awk '{v[NR] = $1} END {
		h = 0.98 * sqrt(NR); low = int((NR + 1) / 2 - h); high = NR + 1 - low
		if (low < 1) { low = 1; high = NR }
		printf "%.3f (%.3f to %.3f)", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[low], v[high]
	}'
}

[ "$mode" != viewers ] || sign_in || { echo "nobody can sign in" && exit 1; }
download >/dev/null && download >/dev/null || exit 1
for ((pair = 1; pair <= pairs; pair++)); do
	alone="" watched=""
	for turn in $((pair % 2)) $(((pair + 1) % 2)); do
		if [ "$turn" = 1 ]; then
			rest
			alone=$(download) || exit 1
		else
			watch
			watched=$(download) || exit 1
			unwatch
		fi
	done
	echo "$alone $watched" | awk '{print $0, $3 / $1, $4 / $2}' | tee -a "$work/pairs" |
		awk '{printf "alone %.1f MB/s %.3f s/GB, with %.1f MB/s %.3f s/GB\n", $1, $2, $3, $4}'
done
echo "$mode, $pairs pairs of downloads of $size MB"
echo "throughput alone $(median 1) MB/s, with $(median 3) MB/s; ratio $(median 5)"
echo "processor time alone $(median 2) s/GB, with $(median 4) s/GB; ratio $(median 6)"

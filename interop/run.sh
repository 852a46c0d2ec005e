#!/usr/bin/env bash
# Installs the real peers by package name and runs the built binary against them. Debian, root, Go, Java with Maven, Python and cargo are
# expected; the rest is installed here. A peer that is missing fails. `run.sh prove` runs the long forms.
set -euo pipefail
cd "$(dirname "$0")/.."
export RIVULET_INTEROP=$PWD/.cache/interop # what belongs to this tree: the binary, the guests, logs
export RIVULET_CACHE=${RIVULET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rivulet} # what was fetched, by version
mkdir -p "$RIVULET_INTEROP" "$RIVULET_CACHE"

# Debian's are pinned by the release; what comes from elsewhere, by version.
debian=(mosquitto mosquitto-clients kcat strace e2fsprogs wabt clang-14 lld-14 rustc libstd-rust-dev-wasm32 chromium)
kafka_python=(3.0.12 2.0.2) # the newest, and the one that distributions still ship: it speaks the oldest versions of everything
paho=2.1.0
mqttjs=5.16.0
nats=2.15.2

step() {
	local name=$1 from=$SECONDS
	shift
	"$@"
	echo "--- $name: $((SECONDS - from)) s"
}

packages() {
	local missing=() p
	for p in "${debian[@]}"; do
		dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing+=("$p")
	done
	[ ${#missing[@]} -eq 0 ] && return
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$RIVULET_INTEROP/apt.log" 2>&1 || {
		tail -n 50 "$RIVULET_INTEROP/apt.log"
		return 1
	}
}

python() {
	local v dir
	for v in "${kafka_python[@]}"; do
		dir=$RIVULET_CACHE/python-$v-$paho
		[ -e "$dir/ready" ] && continue
		python3 -m venv --clear "$dir"
		"$dir/bin/pip" install --quiet --disable-pip-version-check "kafka-python==$v" "paho-mqtt==$paho"
		touch "$dir/ready"
	done
	export RIVULET_PYTHON=$RIVULET_CACHE/python-${kafka_python[0]}-$paho/bin/python
	export RIVULET_PYTHON_OLD=$RIVULET_CACHE/python-${kafka_python[1]}-$paho/bin/python
}

# Node.js comes with npm from its own packages, or as two from Debian's.
javascript() {
	local dir=$RIVULET_CACHE/mqttjs-$mqttjs
	if ! command -v npm >/dev/null; then
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >>"$RIVULET_INTEROP/apt.log" 2>&1
	fi
	if [ ! -e "$dir/ready" ]; then
		mkdir -p "$dir"
		npm install --prefix "$dir" --silent --no-fund --no-audit "mqtt@$mqttjs"
		touch "$dir/ready"
	fi
	export RIVULET_MQTTJS=$dir/node_modules
}

kafka() {
	local line
	for line in 4 3.9; do
		interop/kafka.sh fetch $line >/dev/null
		echo "Apache Kafka $(interop/kafka.sh version $line)"
	done
}

nats() {
	export RIVULET_NATS_VERSION=$nats RIVULET_NATS=$RIVULET_CACHE/nats-$nats/nats-server
	[ -x "$RIVULET_NATS" ] && return
	GOFLAGS='' CGO_ENABLED=0 GOBIN=$RIVULET_CACHE/nats-$nats go install "github.com/nats-io/nats-server/v2@v$nats"
}

binary() {
	export RIVULET_BINARY=$RIVULET_INTEROP/rivulet
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$RIVULET_BINARY" ./cmd/rivulet
}

guests() {
	export RIVULET_GUESTS=$RIVULET_INTEROP/guests
	rm -rf "$RIVULET_GUESTS"
	interop/guests/build.sh "$RIVULET_GUESTS"
}

step packages packages
step python python
step javascript javascript
step kafka kafka
step nats nats
step binary binary
step guests guests

timeout=17m
if [ "${1:-}" = prove ]; then
	timeout=180m
	export RIVULET_KILLS=${RIVULET_KILLS:-100} RIVULET_POWER_CUTS=${RIVULET_POWER_CUTS:-200}
	export RIVULET_PEER_CUTS=${RIVULET_PEER_CUTS:-20} RIVULET_PROVEN=$PWD/docs/PROVEN.md
	export RIVULET_NTH_CALLS=${RIVULET_NTH_CALLS:-400} RIVULET_FULL_DISKS=${RIVULET_FULL_DISKS:-40}
fi
{
	go test -json -tags interop -count=1 -timeout "$timeout" ./interop/ 2>&1 || true
	go test -json -tags interop -count=1 -timeout "$timeout" -run RealKafka ./sync/mirror/ 2>&1 || true
} | tee "$RIVULET_INTEROP/test.json" | go run ./.ci/report -passed

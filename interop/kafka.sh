#!/usr/bin/env bash
# One node of a real Apache Kafka (KRaft), assembled from its published jars. Needs Java 17 and Maven; works as root.
#
#   interop/kafka.sh fetch LINE              the jars of a release line: 4 (newest 4.x) or 3.9; prints where they are
#   interop/kafka.sh start LINE DIR [KEY=VALUE…]
#                                            start a broker in DIR, on free ports that it keeps; prints host:port when it
#                                            answers. In a DIR that was used before it goes on with what is there.
#                                            KEY=VALUE are lines of server.properties; TV=1 formats with the old transaction protocol
#   interop/kafka.sh stop DIR                end it in an orderly way
#   interop/kafka.sh kill DIR                kill -9
#   interop/kafka.sh tool LINE CLASS ARGS…   run one of Kafka's own tools, e.g. org.apache.kafka.tools.TopicCommand
#
# Jars are kept in $RIVULET_CACHE, default ~/.cache/rivulet.
set -euo pipefail

cache=${RIVULET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rivulet}

fail() { echo "kafka.sh: $*" >&2; exit 1; }

fetch() {
	local line=$1 ranges range logging
	case $line in
	4)
		# The newest release may be on its way to the registry, with some of its jars missing: then the one before.
		ranges='[4.0,5.0-alpha) [4.0,4.4-alpha) [4.0,4.2-alpha)'
		logging='<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.24.3</version></dependency>
      <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
      <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-1.2-api</artifactId><version>2.24.3</version></dependency>'
		;;
	3.9)
		ranges='[3.9,4.0-alpha)'
		logging='<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId><version>1.7.36</version></dependency>'
		;;
	*) fail "no release line $line: 4 or 3.9" ;;
	esac
	local dir=$cache/kafka-$line
	[ -e "$dir/complete" ] && { echo "$dir"; return; }
	command -v mvn >/dev/null || fail "Maven is needed: apt-get install maven"
	mkdir -p "$dir"
	local try
	for try in 1 2; do # a registry that hiccups is asked again; Maven keeps what it has
		for range in $ranges; do
			cat >"$dir/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>rivulet.interop</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$range</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$range</version></dependency>
    $logging
  </dependencies>
</project>
XML
			rm -rf "$dir/lib"
			if (cd "$dir" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib) >"$dir/mvn.log" 2>&1; then
				touch "$dir/complete"
				echo "$dir"
				return
			fi
		done
	done
	cat "$dir/mvn.log" >&2
	fail "Maven could not fetch Kafka $line"
}

version() { basename "$(ls "$(fetch "$1")"/lib/kafka-clients-*.jar)" .jar | sed 's/kafka-clients-//'; }

java_run() { # LINE HEAP ARGS…
	local line=$1 heap=$2 dir
	shift 2
	dir=$(fetch "$line")
	exec java "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j.configuration=file:$cache/reload4j.properties" \
		"-Dlog4j2.configurationFile=$cache/log4j2.properties" -cp "$dir/lib/*" "$@"
}

logging() { # warnings only, on standard error
	mkdir -p "$cache"
	[ -e "$cache/log4j2.properties" ] && return
	cat >"$cache/reload4j.properties" <<'P'
log4j.rootLogger=WARN, err
log4j.appender.err=org.apache.log4j.ConsoleAppender
log4j.appender.err.target=System.err
log4j.appender.err.layout=org.apache.log4j.PatternLayout
log4j.appender.err.layout.ConversionPattern=%d %p %m (%c)%n
P
	cat >"$cache/log4j2.properties.tmp" <<'P'
rootLogger.level = warn
rootLogger.appenderRef.err.ref = err
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %d %p %m (%c)%n
P
	mv "$cache/log4j2.properties.tmp" "$cache/log4j2.properties"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
	local p
	while :; do
		p=$((20000 + RANDOM % 12000)) # below the range from which the kernel takes ports for clients
		listening "$p" || { echo "$p"; return; }
	done
}

start() {
	local line=$1 dir=$2 tv='' kv
	shift 2
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	fetch "$line" >/dev/null
	logging
	if [ ! -e "$dir/server.properties" ]; then
		local port ctl
		port=$(free_port)
		ctl=$(free_port)
		cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$ctl
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$ctl
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/data
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
P
		for kv in "$@"; do
			case $kv in
			TV=*) tv=${kv#TV=} ;;
			*) echo "$kv" >>"$dir/server.properties" ;;
			esac
		done
		local id feature=()
		id=$(java_run "$line" 128m kafka.tools.StorageTool random-uuid 2>/dev/null | tail -1)
		[ -n "$tv" ] && feature=(--feature "transaction.version=$tv")
		(java_run "$line" 256m kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" "${feature[@]}") >"$dir/format.log" 2>&1 ||
			{ cat "$dir/format.log" >&2; fail "Kafka could not format $dir/data"; }
	fi
	local port
	port=$(sed -n 's/^advertised.listeners=.*:\([0-9]*\)$/\1/p' "$dir/server.properties")
	if [ -e "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; then
		fail "a broker runs in $dir already"
	fi
	(java_run "$line" 512m kafka.Kafka "$dir/server.properties") >>"$dir/broker.log" 2>&1 </dev/null &
	echo $! >"$dir/pid"
	disown
	local deadline=$((SECONDS + 120))
	until listening "$port"; do
		kill -0 "$(cat "$dir/pid")" 2>/dev/null || { tail -20 "$dir/broker.log" >&2; fail "Kafka ended"; }
		[ $SECONDS -lt $deadline ] || { tail -20 "$dir/broker.log" >&2; fail "Kafka does not listen"; }
		sleep 0.1 # between two looks at the port
	done
	echo "127.0.0.1:$port"
}

signal() { # SIGNAL DIR: waits for its end
	local pid
	[ -e "$2/pid" ] || return 0
	pid=$(cat "$2/pid")
	kill "-$1" "$pid" 2>/dev/null || true
	while kill -0 "$pid" 2>/dev/null && [ "$(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null)" != Z ]; do
		sleep 0.05
	done
	rm -f "$2/pid"
}

case ${1:-} in
fetch) fetch "${2:?release line}" ;;
version) version "${2:?release line}" ;;
start) shift; [ $# -ge 2 ] || fail "start LINE DIR"; start "$@" ;;
stop) signal TERM "${2:?directory}" ;;
kill) signal KILL "${2:?directory}" ;;
tool) shift; [ $# -ge 2 ] || fail "tool LINE CLASS ARGS"; logging; line=$1; shift; java_run "$line" 256m "$@" ;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

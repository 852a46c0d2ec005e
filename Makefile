# What each target does and how long it takes: CONTRIBUTING.md.
.PHONY: build test lint interop bench bench-peers prove

build:
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/ ./cmd/...

test:
	.ci/test

lint:
	.ci/lint
	.ci/cross

interop:
	interop/run.sh

bench: build # 12 minutes
	GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags='-s -w' -o bin/identity-go.wasm ./examples/plugins/go/identity
	bin/rivulet-bench compare --plugin "Redpanda's Go SDK=bin/identity-go.wasm" --markdown docs/BENCHMARKS.md
	bin/rivulet-bench idle --markdown docs/BENCHMARKS.md
	bin/rivulet-bench storm --markdown docs/BENCHMARKS.md
	go test -run '^$$' -bench Wear -benchtime 1x ./storage # its figures go into docs/BENCHMARKS.md by hand

bench-peers: build # 13 minutes
	mkdir -p bin/peers
	GOBIN=$(CURDIR)/bin/peers go install github.com/nats-io/nats-server/v2@latest
	GOBIN=$(CURDIR)/bin/peers go install github.com/mochi-mqtt/server/v2/cmd@latest
	mv bin/peers/cmd bin/peers/mochi
	bin/rivulet-bench peers --markdown docs/BENCHMARKS.md

prove:
	RIVULET_SIM_SEEDS=50000 go test -count=1 -timeout 120m -run Simulator -v ./storage/
	RIVULET_STRESS=2m go test -race -count=1 -timeout 30m -run Together -v ./storage/
	RIVULET_TORTURES=5000 go test -count=1 -timeout 60m -run 'Torture$$' -v ./storage/
	RIVULET_KILLS=200 go test -count=1 -timeout 60m -run Kill9 -v ./interop/
	RIVULET_FUZZ=16 .ci/fuzz # 10 million executions
	interop/run.sh prove

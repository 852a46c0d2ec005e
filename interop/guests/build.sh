#!/usr/bin/env bash
# Builds the guests into the folder given: wat.wasm, c.wasm, go.wasm, rust.wasm. Debian: wabt clang-14 lld-14 rustc libstd-rust-dev-wasm32.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"

wat2wasm drop.wat -o "$out/wat.wasm"
clang-14 --target=wasm32 -O2 -nostdlib -fuse-ld=lld -Wl,--no-entry -Wl,-z,stack-size=65536 drop.c -o "$out/c.wasm"
GOOS=wasip1 GOARCH=wasm go build -trimpath -ldflags='-s -w' -o "$out/go.wasm" ./go

# Debian's compiler has the wasm library; its cargo is too old for today's registry and today's cargo too new for it: so cargo fetches
# Cargo.toml names, and the compiler is called by hand.
cp -r rust "$out/"
cargo vendor --quiet --versioned-dirs --manifest-path "$out/rust/Cargo.toml" "$out/vendor" >/dev/null
crate() { # name, type, source, what it uses…
	local name=$1 type=$2 source=$3 used
	shift 3
	used=()
	for dep; do used+=(--extern "$dep=$out/lib$dep.rlib"); done
	/usr/bin/rustc --edition 2021 --target wasm32-wasi -O -C strip=symbols -C linker=wasm-ld-14 --cap-lints allow -L "$out" \
		--crate-name "$name" --crate-type "$type" "${used[@]}" --out-dir "$out" "$source"
}
sdk=$out/vendor/redpanda-transform-sdk
crate redpanda_transform_sdk_varint lib "$sdk-varint-1.1.0/src/lib.rs"
crate redpanda_transform_sdk_types lib "$sdk-types-1.1.0/src/lib.rs"
crate redpanda_transform_sdk_sys lib "$sdk-sys-1.1.0/src/lib.rs" redpanda_transform_sdk_varint redpanda_transform_sdk_types
crate redpanda_transform_sdk lib "$sdk-1.1.0/src/lib.rs" redpanda_transform_sdk_types redpanda_transform_sdk_sys
crate rust bin rust/src/main.rs redpanda_transform_sdk

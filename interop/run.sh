#!/usr/bin/env bash
# Installs the real peers by package name and runs the built binary against them. Needs root on Debian, and Go.
set -euo pipefail
cd "$(dirname "$0")/.."
go vet -tags interop ./...

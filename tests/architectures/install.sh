#!/usr/bin/env bash
# Debian's cross compilers, the emulator, and package lists for its aarch64 Python. Needs root.
set -euo pipefail
dpkg --add-architecture arm64
apt-get update -qq
apt-get install -qq -y --no-install-recommends qemu-user \
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross \
    gcc-riscv64-linux-gnu libc6-dev-riscv64-cross >/dev/null

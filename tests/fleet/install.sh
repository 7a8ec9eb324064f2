#!/usr/bin/env bash
# The proxies that the tests of several servers run: nginx and Caddy, of Debian, as root.
# Neither is started as a service; what is there already is left alone.
set -euo pipefail
missing=()
for program in nginx caddy; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ "${#missing[@]}" -gt 0 ]; then
    # Installing would start them on ports that others may want.
    blocker=/usr/sbin/policy-rc.d
    if ! [ -e "$blocker" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$blocker"
        chmod +x "$blocker"
        trap 'rm -f "$blocker"' EXIT
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

#!/usr/bin/env bash
# A browser for the tests of the page, and axe-core, which looks for faults of accessibility.
# Needs Debian and root for the browser, npm for axe-core; what is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! [ -x /usr/lib/chromium/chromium-headless-shell ]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium-headless-shell
fi
place=.browser
if ! [ -f "$place/node_modules/axe-core/axe.min.js" ]; then
    if command -v npm >/dev/null; then
        npm install --silent --no-audit --no-fund --prefix "$place" axe-core@4.10.3
    else
        echo "npm is not installed: accessibility is not looked at"
    fi
fi

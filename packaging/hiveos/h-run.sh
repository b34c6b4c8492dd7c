#!/usr/bin/env bash
# Mines, with the settings that h-config.sh wrote. Lines are shown and kept in the log that HiveOS knows of.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=packaging/hiveos/h-manifest.conf
. ./h-manifest.conf

mkdir -p "$(dirname "$CUSTOM_LOG_BASENAME")"
mapfile -t flags <"${CUSTOM_CONFIG_FILENAME%.toml}.flags"
# h-stats.sh asks there.
export PKTMINE_HTTP=${PKTMINE_HTTP:-127.0.0.1:4048}
./pktmine ann --config "$CUSTOM_CONFIG_FILENAME" "${flags[@]}" 2>&1 | tee "$CUSTOM_LOG_BASENAME.log"

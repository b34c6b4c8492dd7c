#!/usr/bin/env bash
# Mines, with the settings that h-config.sh wrote. Lines are shown and kept in the log that HiveOS knows of; it bounds
# that log itself (it moves it away at each start, and empties it at 10 MB).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=packaging/hiveos/h-manifest.conf
. ./h-manifest.conf

# Without a pool the miner is not to mine against its own, for nobody.
export PKTMINE_REQUIRE_POOL=${PKTMINE_REQUIRE_POOL:-true}

mine() {
    local flags=() token status=0
    if [[ ! -e $CUSTOM_CONFIG_FILENAME ]]; then
        echo 'h-run.sh: h-config.sh has written no settings, and said why: mend the flight sheet'
        return 2
    fi
    mapfile -t flags <"${CUSTOM_CONFIG_FILENAME%.toml}.flags"
    # What is worth a word is said when it mines.
    setting() { RUST_LOG=off ./pktmine config print --only "$1" --config "$CUSTOM_CONFIG_FILENAME" "${flags[@]}"; }
    # Where h-stats.sh asks, and with which token: whatever said so.
    rm -f pktmine.api
    token=$(setting http-token) && { [[ $token != @* ]] || token=$(<"${token#@}"); } &&
        (umask 077 && printf '%s\n%s\n' "$(setting http)" "$token" >pktmine.api) &&
        ./pktmine ann --config "$CUSTOM_CONFIG_FILENAME" "${flags[@]}" || status=$?
    [[ $status != 2 ]] ||
        echo 'h-run.sh: mend the flight sheet: it needs a pool URL, an address as wallet template, and valid arguments'
    return "$status"
}

# Ctrl-C is for the miner, which then prints its totals. They are to reach the log, also where the screen is gone.
interrupted=''
trap 'interrupted=yes' INT
mkdir -p "$(dirname "$CUSTOM_LOG_BASENAME")"
status=0
mine 2>&1 | (trap '' INT HUP && exec tee -a "$CUSTOM_LOG_BASENAME.log") || status=$?
if [[ $interrupted ]]; then
    # As whoever started it expects of what was interrupted: HiveOS would start it again otherwise.
    trap - INT
    kill -INT $$
fi
exit "$status"

#!/usr/bin/env bash
# Prints what the dashboard of mmpOS shows. The miner must run with `--http`; where that is, and its token, is what the
# miner beside this script was started with, unless PKTMINE_HTTP (and PKTMINE_HTTP_TOKEN) say so here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=packaging/mmpos/mmp-external.conf
. ./mmp-external.conf

# The value of a setting of a process: what its arguments, variables and files say.
setting() {
    local process=$1 key=$2 program words=() variables=() at value
    program=$(realpath ./pktmine)
    mapfile -d '' -t words <"$process/cmdline"
    mapfile -d '' -t variables <"$process/environ"
    for at in "${!words[@]}"; do
        if [[ ${words[at]} == ann || ${words[at]} == annmine ]]; then
            words=("${words[@]:1:at-1}" config print --only "$key" "${words[@]:at+1}")
            value=$(cd "$process/cwd" && env -i "${variables[@]}" RUST_LOG=off "$program" "${words[@]}")
            # A token can be in a file.
            if [[ $key == http-token && $value == @* ]]; then value=$(cd "$process/cwd" && cat "${value#@}"); fi
            printf '%s' "$value"
            return
        fi
    done
}

api=${PKTMINE_HTTP:-}
token=${PKTMINE_HTTP_TOKEN:-}
if [[ -z $api ]]; then
    for process in /proc/[0-9]*; do
        if [[ $process/exe -ef ./pktmine ]]; then
            api=$(setting "$process" http)
            token=$(setting "$process" http-token)
            [[ -z $api ]] || break
        fi
    done
fi
if [[ -z $api ]]; then
    echo 'mmp-stats.sh: no miner runs here with --http: add --http 127.0.0.1:4048 to its arguments' >&2
    exit 1
fi
# A port alone is one of this machine.
[[ $api == *:* ]] || api=127.0.0.1:$api

ask() {
    curl -fsS --noproxy '*' --max-time 5 -H @- "http://$api/2/$1" <<<"${token:+Authorization: Bearer $token}"
}
summary=$(ask summary)
backends=$(ask backends)
jq -nc --argjson summary "$summary" --argjson backends "$backends" \
    --arg name "$EXTERNAL_NAME" --arg version "$EXTERNAL_VERSION" '
    # "0a:00.0" is bus 10.
    def bus: split(":") | (if length > 2 then .[1] else .[0] end) | ascii_downcase | explode
        | reduce .[] as $c (0; . * 16 + (if $c > 96 then $c - 87 else $c - 48 end));
    [ $backends[] | select(.enabled != false)
      | if .type == "cpu" then { rate: .hashrate[0], bus: "cpu" }
        else .threads[]? | {
            rate: (.hashrate | arrays[0] // .),
            bus: (.bus_id | if type == "string" then bus else . end)
        } end ]
    # The processors come first.
    | sort_by(.bus != "cpu") as $devices
    | {
        busid: [$devices[].bus],
        hash: [$devices[] | (.rate // 0)],
        units: "hs",
        air: [$summary.connection.accepted, 0, $summary.connection.rejected | tostring],
        miner_name: $name,
        miner_version: $version
      }'

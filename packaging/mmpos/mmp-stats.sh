#!/usr/bin/env bash
# Prints what the dashboard of mmpOS shows. The miner must run with `--http 127.0.0.1:4048`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=packaging/mmpos/mmp-external.conf
. ./mmp-external.conf

api=${PKTMINE_HTTP:-127.0.0.1:4048}
ask() { curl -fsS --noproxy '*' --max-time 5 "http://$api/2/$1"; }
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

# shellcheck shell=bash
# Sourced by HiveOS: sets `khs`, the rate in thousands of encryptions a second, and `stats`, an object in its form.
# Options and other names of the shell that sources it stay as they are.

if stats=$(
    # What h-run.sh wrote: where the API is, and its token if it has one.
    { read -r api && read -r token; } <"$(dirname "${BASH_SOURCE[0]}")/pktmine.api" || exit 1
    # A port alone is one of this machine.
    [[ $api == *:* ]] || api=127.0.0.1:$api
    ask() {
        curl -fsS --noproxy '*' --max-time 5 -H @- "http://$api/2/$1" <<<"${token:+Authorization: Bearer $token}"
    }
    summary=$(ask summary) || exit 1
    backends=$(ask backends) || exit 1
    jq -nc --argjson summary "$summary" --argjson backends "$backends" '
        # "0a:00.0" is bus 10.
        def bus: split(":") | (if length > 2 then .[1] else .[0] end) | ascii_downcase | explode
            | reduce .[] as $c (0; . * 16 + (if $c > 96 then $c - 87 else $c - 48 end));
        [ $backends[] | select(.enabled != false)
          | if .type == "cpu" then { rate: .hashrate[0], bus: null, temp: 0, fan: 0 }
            else .threads[]? | {
                rate: (.hashrate | arrays[0] // .),
                bus: (.bus_id | if type == "string" then bus else . end),
                temp: (.health.temperature // 0),
                fan: (.health.fan_speed | arrays[0] // . // 0)
            } end ] as $devices
        | {
            hs: [$devices[] | ((.rate // 0) / 1000)],
            hs_units: "khs",
            temp: [$devices[].temp],
            fan: [$devices[].fan],
            uptime: $summary.uptime,
            ar: [$summary.connection.accepted, $summary.connection.rejected],
            algo: $summary.algo,
            bus_numbers: [$devices[].bus],
            ver: $summary.version
          }'
); then
    khs=$(jq '.hs | add // 0' <<<"$stats")
else
    # shellcheck disable=SC2034 # HiveOS reads both.
    stats=null khs=0
fi

#!/usr/bin/env bash
# Writes the settings file from what the flight sheet says: pool URLs (CUSTOM_URL), the address that is paid
# (CUSTOM_TEMPLATE) and, as extra arguments (CUSTOM_USER_CONFIG), either lines of pktmine.toml or flags.
set -euo pipefail

config=${CUSTOM_CONFIG_FILENAME:?HiveOS sets it from h-manifest.conf}
flags=${config%.toml}.flags

# A text as TOML has it.
quote() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

{
    echo '# Written by h-config.sh: change the flight sheet instead.'
    pools=''
    read -r -d '' -a urls <<<"${CUSTOM_URL:-}" || true
    for url in "${urls[@]//,/}"; do
        [[ $url == *://* ]] || url=http://$url
        pools+=${pools:+, }$(quote "$url")
    done
    echo "pools = [$pools]"
    [[ -z ${CUSTOM_TEMPLATE:-} ]] || echo "paymentaddr = $(quote "$CUSTOM_TEMPLATE")"
    [[ ${CUSTOM_USER_CONFIG:-} == -* ]] || printf '%s\n' "${CUSTOM_USER_CONFIG:-}"
} >"$config"

if [[ ${CUSTOM_USER_CONFIG:-} == -* ]]; then
    read -r -d '' -a words <<<"$CUSTOM_USER_CONFIG" || true
    printf '%s\n' "${words[@]}" >"$flags"
else
    : >"$flags"
fi

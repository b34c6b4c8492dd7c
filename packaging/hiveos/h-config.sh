#!/usr/bin/env bash
# Writes the settings file from what the flight sheet says: pool URLs (CUSTOM_URL), the address that is paid
# (CUSTOM_TEMPLATE) and, as extra arguments (CUSTOM_USER_CONFIG), either lines of pktmine.toml or flags.
# HiveOS sources it into the shell that runs the miner: the parentheses keep options and names from that shell.
(
    set -euo pipefail
    # There may be a token in it.
    umask 077
    config=${CUSTOM_CONFIG_FILENAME:?HiveOS sets it from h-manifest.conf}
    flags=${config%.toml}.flags
    # Where this fails nothing is mined, and so not for an older flight sheet.
    rm -f "$config" "$flags"

    trim() {
        local text=${1#"${1%%[![:space:]]*}"}
        printf '%s' "${text%"${text##*[![:space:]]}"}"
    }
    # A text as TOML has it.
    quote() {
        local text=${1//\\/\\\\}
        printf '"%s"' "${text//\"/\\\"}"
    }
    url_list=${CUSTOM_URL:-}
    address=$(trim "${CUSTOM_TEMPLATE:-}")
    extra=$(trim "${CUSTOM_USER_CONFIG:-}")
    lines=''
    if [[ $extra == -* ]]; then
        # One flag or value a line; quotes and backslashes are as in a shell.
        xargs printf '%s\n' <<<"$extra" >"$flags.new" || {
            echo "h-config.sh: the quotes in the extra config arguments do not match: $extra" >&2
            exit 1
        }
    else
        lines=$extra
        : >"$flags.new"
    fi
    # Whether the lines say it themselves: those are for settings, until the first table.
    is_said() { [[ $'\n'${lines%%$'\n['*} =~ $'\n'[[:space:]]*$1[[:space:]]*= ]]; }

    {
        echo '# Written by h-config.sh: change the flight sheet instead.'
        pools=''
        read -r -d '' -a urls <<<"${url_list//,/ }" || true
        for url in "${urls[@]}"; do
            [[ $url == *://* ]] || url=http://$url
            pools+=${pools:+, }$(quote "$url")
        done
        [[ -z $pools ]] || is_said pools || echo "pools = [$pools]"
        [[ -z $address ]] || is_said paymentaddr || echo "paymentaddr = $(quote "$address")"
        # h-stats.sh asks there, or where extra arguments say.
        is_said http || echo 'http = "127.0.0.1:4048"'
        printf '%s\n' "$lines"
    } >"$config.new"
    mv "$flags.new" "$flags"
    mv "$config.new" "$config"
)

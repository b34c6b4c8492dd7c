#!/usr/bin/env bash
# Makes the archives of a release: for any Linux, for HiveOS and for mmpOS, and their checksums. The same program
# gives the same archives, whoever makes them and whenever.
#
# Usage: packaging/make-packages.sh [--out DIR] [--binary FILE]
#   --out DIR      where they go [default: dist]
#   --binary FILE  the program [default: the one that `cargo build --profile dist` makes]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/dist
binary=''
while [[ $# -gt 0 ]]; do
    case $1 in
        --out) out=${2:?--out needs a directory} && shift 2 ;;
        --binary) binary=${2:?--binary needs a file} && shift 2 ;;
        *) echo "make-packages.sh: what is $1? see its first lines" >&2 && exit 2 ;;
    esac
done
if [[ -z $binary ]]; then
    # Systems for this processor have pages of 4, 16 or 64 KiB, and the allocator runs on those up to what it was built for.
    if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi
    (cd "$root" && cargo build --profile dist --locked --bin pktmine)
    binary=${CARGO_TARGET_DIR:-$root/target}/dist/pktmine
fi
binary=$(realpath "$binary")

version=$("$binary" --version)
version=${version#pktmine }
# HiveOS takes what follows the last "-" of an archive's name for the version.
[[ $version != *-* ]] || { echo "make-packages.sh: HiveOS wants a version without \"-\": $version" >&2 && exit 1; }
machine=$(uname -m)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# archive FOLDER FILE: packs the folder, named by itself, so that nothing but its contents matters.
archive() {
    local folder=$1 file=$2
    mkdir -p "$(dirname "$file")"
    tar --directory "$(dirname "$folder")" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
        --mode=u+rwX,go+rX,go-w --mtime="@${SOURCE_DATE_EPOCH:-0}" --create "$(basename "$folder")" |
        gzip --no-name --best >"$file"
}

# fill FROM FOLDER: copies scripts and puts the version into them.
fill() {
    local from=$1 folder=$2 file
    mkdir -p "$folder"
    for file in "$root/packaging/$from"/*; do
        sed "s/@VERSION@/$version/g" "$file" >"$folder/$(basename "$file")"
        if [[ -x $file ]]; then chmod +x "$folder/$(basename "$file")"; fi
    done
    install -m 755 "$binary" "$folder/pktmine"
    cp "$root"/LICENSE-* "$folder"
}

release=$work/release/pktmine-$version-$machine-linux
mkdir -p "$release"/{completions,docs,benches,packaging}
install -m 755 "$binary" "$release/pktmine"
cp "$root/README.md" "$root"/LICENSE-* "$release"
# As in the repository, since README.md and docs/ point there.
cp "$root"/docs/*.md "$release/docs"
cp "$root/benches/RESULTS.md" "$release/benches"
cp -r "$root"/packaging/{README.md,pktmine.toml,systemd,grafana,kubernetes} "$release/packaging"
"$binary" man --out "$release/man"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$release/completions/pktmine.$shell"
done
fill hiveos "$work/hiveos/pktmine"
fill mmpos "$work/mmpos/pktmine"

made=("$(basename "$release").tar.gz" "hiveos/pktmine-$version.tar.gz" "mmpos/pktmine-$version.tar.gz")
archive "$release" "$out/${made[0]}"
archive "$work/hiveos/pktmine" "$out/${made[1]}"
archive "$work/mmpos/pktmine" "$out/${made[2]}"
# Of these alone: older ones may lie beside them.
(cd "$out" && sha256sum -- "${made[@]}" >SHA256SUMS)
echo "made in $out:"
cat "$out/SHA256SUMS"

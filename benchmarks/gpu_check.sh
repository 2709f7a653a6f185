#!/usr/bin/env bash
# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
#
# Measures this commit on one GPU, beside an older one if it is named, in under eight minutes:
#
#     benchmarks/gpu_check.sh [--dry-run] [OLDER_COMMIT]
#
# Parity comes first, every part has a time limit, and what fails is said and passed over. $OUT (./gpu_check if not set)
# gets gpu_check.txt, gpu_check.json and what every part wrote. PYTHON, PARTS and BUDGET (seconds) may be set.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
out=${OUT:-gpu_check}; python=${PYTHON:-python}; budget=${BUDGET:-470}
parts=${PARTS:-quick inference_graph training_graph training_compiled}
declare -A limits=([quick]=150 [inference_graph]=100 [training_graph]=150 [training_compiled]=150)
dry=(); older=""
for argument in "$@"; do
    case $argument in
        --dry-run) dry=(--dry-run) ;;
        -*) echo "usage: gpu_check.sh [--dry-run] [OLDER_COMMIT], got $argument" >&2; exit 2 ;;
        *) older=$argument ;;
    esac
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
rm -f "$out"/*.json "$out"/*.log "$out"/gpu_check.txt
cp "$root/benchmarks/gpu_check.py" "$out/gpu_check.py" || exit 2  # the same for both commits
if [ ${#dry[@]} -eq 0 ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu_check.sh needs a GPU that PyTorch sees, got none: --dry-run tries it on a CPU" >&2
    exit 2
fi
name=$(git -C "$root" rev-parse --short HEAD 2>/dev/null) || name=this
git -C "$root" diff --quiet HEAD 2>/dev/null || name="$name+changes"
commits=("$name"); declare -A places=(["$name"]=$root)
if [ -n "$older" ]; then
    old=$(git -C "$root" rev-parse --short "$older^{commit}" 2>/dev/null) || {
        echo "OLDER_COMMIT must be a commit of this repository, got $older" >&2; exit 2; }
    [ "$old" = "$name" ] && old="$old-again"
    rm -rf "$out/older" && mkdir "$out/older" && git -C "$root" archive "$older" | tar -x -C "$out/older" || exit 2
    commits+=("$old"); places["$old"]=$out/older
fi
for part in $parts; do
    [ -n "${limits[$part]:-}" ] || { echo "PARTS must be of ${!limits[*]}, got $part" >&2; exit 2; }
done
failed=0; began=$SECONDS
for part in $parts; do
    for commit in "${commits[@]}"; do
        left=$((budget - SECONDS + began)); limit=${limits[$part]}
        [ "$left" -lt "$limit" ] && limit=$left
        if [ "$limit" -lt 10 ]; then
            echo "$part of $commit: left out, the time is over" | tee -a "$out/said.log"; failed=1; continue
        fi
        (cd "$out" && timeout "$limit" "$python" gpu_check.py --part "$part" --root "${places[$commit]}" \
            --file "$out/$commit.$part.json" "${dry[@]}") >"$out/$commit.$part.log" 2>&1
        code=$?
        case $code in
            0) ;;
            124) echo "$part of $commit: stopped after $limit s" | tee -a "$out/said.log"; failed=1 ;;
            *) echo "$part of $commit: ended with $code, see $commit.$part.log" | tee -a "$out/said.log"; failed=1 ;;
        esac
    done
done
(cd "$out" && "$python" gpu_check.py --table "$out" --commits "${commits[@]}" "${dry[@]}") 2>"$out/table.log" \
    | tee "$out/gpu_check.txt" || failed=1
rm -rf "$out/older"
echo "took $((SECONDS - began)) s"
exit $failed

# digest, used_at (seconds since 1970), busy: take an image away, unless it is used or has been since.
set -eu
cd "$pool"
exec 8>.lock 9>".$digest.lock"
flock 8
flock -n 9 || exit "$busy"
if cat "$root"/guests/*/*/image 2>/dev/null | grep -qxF "$digest"; then exit "$busy"; fi
[ "$(stat -c %Y "$digest/files" 2>/dev/null)" = "$used_at" ] || exit "$busy"
rm -rf ".$digest.partial"
mv -T "$digest" ".$digest.partial"
exec 8>&-
rm -rf ".$digest.partial"

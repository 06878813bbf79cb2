# digest, wait (seconds), need (KiB), packer, files (text), busy, no_space, broken: an image comes as a tar on stdin.
set -eu
umask 022
mkdir -p -m 711 "$root" "$pool"
cd "$pool"
lock "$digest"
if whole "$digest"; then
  touch "$digest/files"
  exit 0
fi
# What guests have open of a broken one, they keep.
rm -rf ".$digest.partial" "$digest"
free=$(df -Pk . | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$need" ] || { echo "$free" >&2; exit "$no_space"; }
trap 'rm -rf "$pool/.$digest.partial"' EXIT
trap 'exit 1' HUP INT TERM PIPE
mkdir ".$digest.partial"
cd ".$digest.partial"
# A transfer that breaks off ends early, and is then not whole.
if [ "$packer" ]; then "$packer" -dc | tar -xSf - --no-same-owner; else tar -xSf - --no-same-owner; fi || exit "$broken"
printf %s "$files" >files
unharmed || exit "$broken"
chmod 0644 ./*
sync ./* .
cd ..
mv -T ".$digest.partial" "$digest"

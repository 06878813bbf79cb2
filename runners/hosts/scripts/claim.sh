# digest, folder, owner, gone: make the folder of a guest that rests on an image.
set -eu
umask 022
mkdir -p -m 711 "$root" "$root/guests" "${folder%/*}" "$pool"
exec 8>"$pool/.lock"
flock -s 8
[ -e "$pool/$digest/files" ] || exit "$gone"
mkdir -m 711 "$folder"
echo "$digest" >"$folder/image"
echo "$owner" >"$folder/owner"

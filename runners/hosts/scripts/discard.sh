# folder: take a guest's folder away, what is mounted in it, and the devices that its files are; those in use go when
# they are not any more.
set -eu
while read -r _ place _; do
  case "$place" in "$folder"/*) umount -l "$place" ;; esac
done </proc/self/mounts
for device in "$folder"/*.device; do
  [ ! -L "$device" ] || losetup -d "$(readlink "$device")" || true
done
rm -rf --one-file-system "$folder"

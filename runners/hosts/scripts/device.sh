# folder, file: a file of a guest becomes a block device, FILE.device.
set -eu
cd "$folder"
ln -s "$(losetup -f --show "$file")" "$file.device"

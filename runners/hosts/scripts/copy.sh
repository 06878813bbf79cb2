# folder, image, format, disk_mib: a guest's disk as a plain copy of its image's, as large as it is to be.
set -eu
cd "$folder"
if [ "$format" = raw ]; then
  cp --sparse=always --reflink=auto "$image" disk
else
  qemu-img convert -f "$format" -O raw "$image" disk
fi
truncate -s "${disk_mib}M" disk

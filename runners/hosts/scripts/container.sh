# folder, image, disk_mib, first: the root of a container: the disk of its image, on which its users are others of this
# host, and over it one as large as its own may be, so that it cannot fill the host's.
set -eu
cd "$folder"
mkdir under over root
mount -o "loop,ro,noload,nodev,X-mount.idmap=b:0:$first:65536" "$image" under
[ "$(stat -c %u under)" = "$first" ] || { echo "its mount(8) cannot change users: util-linux 2.39 can" >&2; exit 1; }
truncate -s "${disk_mib}M" disk
mkfs.ext4 -q -O ^has_journal -E "nodiscard,root_owner=$first:$first" disk
mount -o loop,nodev disk over
mkdir over/upper over/work
chown "$first:$first" over/upper
mount -t overlay -o "nodev,lowerdir=under,upperdir=over/upper,workdir=over/work" farm root

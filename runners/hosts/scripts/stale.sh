# ours: the folders of a farm's guests, and whose they are: a line each of `NAME OWNER`.
cd "$ours" 2>/dev/null || exit 0
for owner in */owner; do
  [ ! -e "$owner" ] || echo "${owner%/owner} $(cat "$owner")"
done

# The images here: a line for each, `image DIGEST LAST-USED KIB`, and `used DIGEST` for each on which a guest rests.
cd "$pool" 2>/dev/null || exit 0
for files in */files; do
  [ -e "$files" ] || continue
  digest=${files%/files}
  echo "image $digest $(stat -c %Y "$files") $(du -sk "$digest" | cut -f 1)"
done
cat "$root"/guests/*/*/image 2>/dev/null | sort -u | sed 's/^/used /'

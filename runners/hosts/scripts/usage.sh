# What the farm keeps here: a line each of `image DIGEST LAST-USED KIB`, `used DIGEST`, `guests KIB`, `free KIB`.
cd "$pool" 2>/dev/null || { cd / && echo "free $(df -Pk . | awk 'NR == 2 { print $4 }')"; exit 0; }
for files in */files; do
  [ -e "$files" ] || continue
  digest=${files%/files}
  echo "image $digest $(stat -c %Y "$files") $(du -sk "$digest" | cut -f 1)"
done
cat "$root"/guests/*/*/image 2>/dev/null | sort -u | sed 's/^/used /'
[ ! -d "$root/guests" ] || echo "guests $(du -sk "$root/guests" | cut -f 1)"
echo "free $(df -Pk . | awk 'NR == 2 { print $4 }')"

# Remove what is left of copies whose makers were killed, or whose host went down.
cd "$pool" 2>/dev/null || exit 0
for rest in .*.partial; do
  [ -e "$rest" ] || continue
  digest=${rest#.}
  (flock -n 9 && rm -rf "$rest") 9>".${digest%.partial}.lock" || true
done

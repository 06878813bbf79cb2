# Common to all scripts of this folder, which run on a host by its /bin/sh. The farm sets their variables before:
# root, pool, and what each names at its top.

# Whether a folder is an image that is all there: each of its files, as long as it has to be.
whole() {
  (cd "$1" 2>/dev/null && [ -s files ] &&
    while read -r sum size name; do [ "$(stat -c %s "$name" 2>/dev/null)" = "$size" ] || exit 1; done <files)
}

# Whether the files of the current folder are what was copied, to the last bit.
unharmed() {
  whole . && while read -r sum size name; do echo "$sum  $name"; done <files | sha256sum --quiet -c - >&2
}

# Take the lock of an image, on descriptor 9; says so where that takes time.
lock() {
  exec 9>"$pool/.$1.lock"
  flock -n 9 || { echo "waiting for another that is at work on it" >&2; flock -w "$wait" 9 || exit "$busy"; }
}

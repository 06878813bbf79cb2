# digest, broken: read an image through.
cd "$pool/$digest" || exit 0
unharmed || exit "$broken"

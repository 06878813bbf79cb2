# digest: is this image here? It counts as used now. Says too whether zstd is installed.
whole "$pool/$digest" && touch "$pool/$digest/files" && echo there
command -v zstd >/dev/null && echo zstd
true

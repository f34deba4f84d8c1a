# The gates: each passes or fails as one test.
# shellcheck shell=bash

gate_locks() {
  local found
  found=$(git ls-files '*package-lock.json' | xargs -r grep -lE '"resolved": *"https?:')
  # A lock that is not committed yet counts too.
  found+=$(git ls-files --others --exclude-standard '*package-lock.json' | xargs -r grep -lE '"resolved": *"https?:')
  [ -z "$found" ] || { echo "download addresses in: $found"; return 1; }
}

gate_fmt() { cargo fmt --all --check; }
gate_clippy() { cargo clippy --workspace --all-targets --locked -- -D warnings; }
gate_doc() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked; }

# Where `cargo-deny fetch db` puts its database. It is not fetched here: the gates give the same answer without a network.
has_advisories() { compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/advisory-db-*" >/dev/null; }
# Bans, licences and sources of the crates in Cargo.lock; see .deny.toml.
gate_deny() {
  local deny=("$VENV/bin/cargo-deny" --locked)
  "${deny[@]}" check --hide-inclusion-graph -D unmatched-skip -D unnecessary-skip bans licenses sources || return 1
  ! has_advisories || "${deny[@]}" --offline check --hide-inclusion-graph advisories
}
gate_machete() { "$TOOLS/bin/cargo-machete" --with-metadata; }
gate_typos() { "$VENV/bin/typos"; }

# Everything that the served OpenAPI document promises, tried with wanted and unwanted input.
gate_openapi() {
  local secret=openapi-tests-secret-of-more-than-32-bytes dir=$WORK/openapi base token server status
  mkdir "$dir"
  (cd "$dir" && exec env -i PATH="$PATH" JWT_SECRET="$secret" "$ORDERCAST_BIN" serve --listen 127.0.0.1:0 \
    --database-url "sqlite://$dir/t.db?mode=rwc" >"$dir/out" 2>"$dir/err") &
  server=$!
  for _ in $(seq 150); do
    base=$(grep -om1 'http://127\.0\.0\.1:[0-9]*' "$dir/out") && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  [ -n "$base" ] || { echo "the server did not start"; cat "$dir/out" "$dir/err"; return 1; }
  token=$(env -i PATH="$PATH" JWT_SECRET="$secret" "$ORDERCAST_BIN" token --sub root --role admin) || return 1
  (cd "$dir" && "$VENV/bin/schemathesis" --config-file "$OLDPWD/tests/openapi/schemathesis.toml" --no-color \
    run "$base/openapi.json" --phases examples,coverage,fuzzing --checks all -H "Authorization: Bearer $token")
  status=$?
  kill "$server" && wait "$server" 2>/dev/null
  [ "$status" = 0 ] || { echo "--- what the server said:"; tail -n 40 "$dir/out" "$dir/err"; }
  return "$status"
}

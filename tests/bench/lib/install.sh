# Installs what the benchmark needs: our own programs, the peers, and PostgreSQL.
# shellcheck shell=bash disable=SC2154,SC2034 # the variables are those of `run` and its other parts

VENV=$out/venv

wants() { [[ " $measures " =~ \ ($1)\  ]]; }
serves() { [[ " ${SERVERS:-$all_servers} " =~ \ ($1)\  ]]; }

install_all() {
  if [ -z "${ORDERCAST:-}" ]; then
    cargo build --release --locked -p ordercast
    ORDERCAST=$target/release/ordercast
  fi
  if [ -z "${GENERATOR:-}" ]; then
    cargo build --release --locked -p ordercast-bench
    GENERATOR=$target/release/ordercast-bench
  fi
  if serves 'node|nest|bun|fastify'; then install_npm tests/bench/peers; fi
  if serves 'python|fastapi'; then install_venv tests/bench/peers/requirements.txt; fi
  if wants 'status|growth' && serves ordercast && [ -z "$(pg_program initdb)" ]; then apt_install postgresql; fi
}

install_venv() {
  if cmp -s "$1" "$VENV/installed.txt"; then return 0; fi
  rm -rf "$VENV"
  python3 -m venv "$VENV" && "$VENV/bin/pip" install --quiet --retries 5 -r "$1" && cp "$1" "$VENV/installed.txt"
}

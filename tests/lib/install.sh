# What the tests need and a fresh machine lacks.
# shellcheck shell=bash

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -n "$@" || { echo "needs root: run this once by hand: $*" >&2; return 1; }
  else echo "needs root, and there is no sudo: run this once as root: $*" >&2; return 1
  fi
}

# Installs Debian packages, a few tries, for mirrors have bad minutes.
apt_install() {
  local try
  for try in 1 2 3 4; do
    [ "$try" = 1 ] || { echo "apt-get failed; try $try in $((try * 5)) s"; sleep $((try * 5)); }
    as_root apt-get -qq update \
      && as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" && return 0
  done
  return 1
}

install_debian() {
  local missing=()
  [ -n "$(pg_program initdb)" ] || missing+=(postgresql)
  command -v chromium >/dev/null || missing+=(chromium)
  # Sends and receives SMS.
  [ -x /usr/sbin/bearerbox ] && [ -x /usr/lib/kannel/test/fakesmsc ] || missing+=(kannel kannel-extras)
  # Receives Web Push.
  command -v firefox-esr >/dev/null || missing+=(firefox-esr)
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
  # For rust_socketio.
  pkg-config --exists openssl 2>/dev/null || missing+=(pkg-config libssl-dev)
  if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}" || return 1; fi
  local tool
  for tool in cargo node npm python3; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed: this needs Rust 1.95, Node 20 and Python 3.11" >&2; return 1; }
  done
}

# `npm ci` where the lock has changed since the last one.
install_npm() {
  local folder=$1 stamp=$1/node_modules/.installed try
  [ -f "$folder/package-lock.json" ] || { echo "$folder/package-lock.json is missing" >&2; return 1; }
  if cmp -s "$folder/package-lock.json" "$stamp"; then return 0; fi
  for try in 1 2 3; do
    (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error) \
      && cp "$folder/package-lock.json" "$stamp" && return 0
  done
  return 1
}

# install_python REQUIREMENTS: its packages into the tests' venv, where the list has changed since the last time.
install_python() {
  local wanted=$1 stamp=$VENV/${1//\//-}
  if cmp -s "$wanted" "$stamp"; then return 0; fi
  python3 -m venv "$VENV" && "$VENV/bin/pip" install --quiet --retries 5 -r "$wanted" && cp "$wanted" "$stamp"
}

# python-socketio 4, which cannot stand beside version 5: into a folder of its own.
install_python_4() {
  local wanted=tests/clients/requirements-4.txt stamp=$PYTHON_4/.installed
  if cmp -s "$wanted" "$stamp"; then return 0; fi
  rm -rf "$PYTHON_4"
  "$VENV/bin/pip" install --quiet --retries 5 --target "$PYTHON_4" -r "$wanted" && cp "$wanted" "$stamp"
}

# A client in Rust. Nothing else needs its dependencies, so it is outside the workspace.
build_rust_client() {
  CARGO_TARGET_DIR=$TARGET/rust-client cargo build --quiet --locked --manifest-path tests/clients/programs/rust/Cargo.toml
}

# cargo-machete comes as source only. A debug build takes half the time and is fast enough.
install_machete() {
  local version=0.9.2
  if [ "$("$TOOLS/bin/cargo-machete" --version 2>/dev/null)" = "$version" ]; then return 0; fi
  CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked --debug --root "$TOOLS" --version "$version" cargo-machete
}

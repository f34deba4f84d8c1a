# A PostgreSQL of our own: a free port, a temporary folder, gone at the end.
# shellcheck shell=bash

# Where it listens. Elsewhere than on loopback it is for a network of machines: PG_BEFORE is the command that enters its own.
PG_HOST=${PG_HOST:-127.0.0.1} PG_BEFORE=${PG_BEFORE:-}

# PostgreSQL refuses to run as root, so root steps down to the user that Debian's package makes.
as_postgres() {
  # shellcheck disable=SC2086 # it is a command and its arguments
  if [ "$(id -u)" = 0 ]; then $PG_BEFORE runuser -u postgres -- "$@"; else "$@"; fi
}

PG_DIR=$WORK/postgres

# Debian keeps the server's programs out of the PATH, in a folder for each version.
pg_program() { find /usr/lib/postgresql -path "*/bin/$1" 2>/dev/null | sort -V | tail -n 1; }

start_postgres() {
  local password port
  mkdir "$PG_DIR" && chmod 700 "$PG_DIR"
  password=$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')
  printf '%s\n' "$password" >"$PG_DIR/password"
  [ "$(id -u)" != 0 ] || chown -R postgres "$PG_DIR"
  (cd "$PG_DIR" && as_postgres "$(pg_program initdb)" -D "$PG_DIR/data" -U ordercast -A scram-sha-256 \
    --pwfile="$PG_DIR/password" -E UTF8 --locale=C) || return 1
  [ "$PG_HOST" = 127.0.0.1 ] || echo 'host all all samenet scram-sha-256' >>"$PG_DIR/data/pg_hba.conf"
  port=$(free_port)
  (cd "$PG_DIR" && as_postgres "$(pg_program pg_ctl)" -D "$PG_DIR/data" -w -t 60 -l "$PG_DIR/log" \
    -o "-p $port -c listen_addresses=$PG_HOST -c unix_socket_directories=$PG_DIR -c max_connections=200" start) \
    || { cat "$PG_DIR/log"; return 1; }
  # The tests make a database each, below this address.
  echo "postgres://ordercast:$password@$PG_HOST:$port/" >"$WORK/postgres.url"
}

stop_postgres() {
  [ -f "$PG_DIR/data/postmaster.pid" ] || return 0
  (cd "$PG_DIR" && as_postgres "$(pg_program pg_ctl)" -D "$PG_DIR/data" -m immediate stop) >/dev/null 2>&1
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# What a standby has that gets nothing from now on.
copy_postgres() {
  local port
  port=$(sed 's/.*:\([0-9]*\)\/$/\1/' "$WORK/postgres.url")
  (cd "$PG_DIR" && as_postgres env PGPASSWORD="$(cat "$PG_DIR/password")" "$(pg_program pg_basebackup)" \
    -h "$PG_DIR" -p "$port" -U ordercast -D "$PG_DIR/standby" -X stream -c fast)
}

# That standby takes the place and the address of the server, which has died.
promote_postgres() {
  local options
  options=$(sed "s/^[^\"]*//; s/\"//g" "$PG_DIR/data/postmaster.opts")
  stop_postgres
  mv "$PG_DIR/data" "$PG_DIR/dead.$(date +%s%N)" && mv "$PG_DIR/standby" "$PG_DIR/data" || return 1
  as_postgres touch "$PG_DIR/data/standby.signal"
  (cd "$PG_DIR" && as_postgres "$(pg_program pg_ctl)" -D "$PG_DIR/data" -w -t 30 -l "$PG_DIR/log" -o "$options" start \
    && as_postgres "$(pg_program pg_ctl)" -D "$PG_DIR/data" -w -t 30 promote)
}

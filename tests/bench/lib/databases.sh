# Makes a database for each run of Ordercast, empty or filled with a number of orders.
# shellcheck shell=bash disable=SC2154 # the variables are those of `run` and its other parts

# Starts PostgreSQL. A database of each size is filled once and copied for each run, on SQLite and on PostgreSQL.
start_database_server() {
  start_postgres >"$WORK/postgres.log" 2>&1 || { cat "$WORK/postgres.log" >&2; return 1; }
  postgres=$(cat "$WORK/postgres.url")
  postmaster=$(head -n 1 "$PG_DIR/data/postmaster.pid")
  # In production it would be another machine, so it runs on the generator's core and takes no time from the server.
  taskset -acp 1 "$postmaster" >/dev/null
  sql postgres -c "ALTER SYSTEM SET max_wal_size = '4GB'" -c 'SELECT pg_reload_conf()'
}

# sql DATABASE OPTION…
sql() {
  local name=$1
  shift
  psql -qAtX -v ON_ERROR_STOP=1 "$postgres$name" "$@" >/dev/null
}

# Raises the priority of PostgreSQL's processes, because each of them has its own session.
prefer_postgres() {
  local pid
  for _ in 1 2 3 4 5 6; do
    for pid in $(pgrep -P "$postmaster"); do prefer "$pid" || true; done
    sleep 0.3
  done
}

# make_database DATABASE ORDERS: sets $database_url.
make_database() {
  local kind=$1 orders=$2 template
  if [ "$orders" != 0 ] && [ ! -e "$WORK/filled.$kind.$orders" ]; then
    fill "$kind" "$orders" || return 1
    : >"$WORK/filled.$kind.$orders"
  fi
  if [ "$kind" = postgres ]; then
    [ "$orders" = 0 ] && template=template1 || template="filled_$orders STRATEGY file_copy"
    sql postgres -c "CREATE DATABASE bench TEMPLATE $template"
    database_url=${postgres}bench
  else
    [ "$orders" = 0 ] || cp "$WORK/filled.$orders.db" "$WORK/bench.db"
    database_url="sqlite://$WORK/bench.db?mode=rwc"
  fi
  # Writes the copied pages to disk now, so that the server does not wait for them later.
  [ "$orders" = 0 ] || sync
}

drop_database() {
  rm -f "$WORK"/bench.db*
  if [[ $database_url = postgres* ]]; then sql postgres -c 'DROP DATABASE IF EXISTS bench WITH (FORCE)' || true; fi
  database_url=''
}

# fill DATABASE ORDERS: Ordercast creates the tables and one order. Then, with no server running, SQL clones the order.
fill() {
  local kind=$1 orders=$2 token
  database_url="sqlite://$WORK/filled.$orders.db?mode=rwc"
  if [ "$kind" = postgres ]; then
    sql postgres -c "CREATE DATABASE filled_$orders"
    database_url=${postgres}filled_$orders
  fi
  port=$((port + 1))
  run_server "$ORDERCAST" serve --listen "127.0.0.1:$port" --database-url "$database_url"
  token=$(JWT_SECRET=$secret "$ORDERCAST" token --sub bench-admin --role admin)
  curl -s --fail --retry 50 --retry-delay 1 --retry-connrefused -o "$WORK/template.json" \
    -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d @tests/bench/lib/template.json \
    "http://127.0.0.1:$port/orders" || return 1
  end_server
  if [ "$kind" = postgres ]; then
    sed "s/:count/$orders/g" tests/bench/lib/fill.sql | sql "filled_$orders" -1 -f -
    sql "filled_$orders" -c 'VACUUM ANALYZE'
  else
    python3 tests/bench/lib/fill.py "$WORK/filled.$orders.db" "$orders"
  fi
}

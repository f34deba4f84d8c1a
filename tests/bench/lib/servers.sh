# Starts and stops the servers, one at a time on core 0, and the generator on core 1.
# shellcheck shell=bash disable=SC2154 # the variables are those of `run` and its other parts

secret=bench-secret-that-is-long-enough-for-hs256
port=$((20000 + RANDOM % 8000))
server='' database_url=''

# prefer PID|self: gives a session priority over all others.
prefer() {
  echo -15 >"/proc/$1/autogroup"
  if [ "$1" = self ]; then renice -n -15 $$ >/dev/null; fi
} 2>/dev/null

# is_ordercast NAME: whether it is ours, of today or of before.
is_ordercast() { [ "$1" = ordercast ] || [ "$1" = before ]; }

# start_server NAME DATABASE ORDERS: sets $server to the process id and $options to the generator's options.
start_server() {
  local name=$1 database=$2 orders=$3
  if is_ordercast "$name"; then make_database "$database" "$orders" || return 1; fi
  port=$((port + 1))
  options=(--addr "127.0.0.1:$port" --label "$name")
  case $name in tungstenite | fastify | fastapi) options+=(--wire ws) ;; esac
  case $name in
    ordercast | before)
      local binary=${ordercast[0]}
      [ "$name" = ordercast ] || binary=$BEFORE
      options+=(--jwt-secret "$secret")
      run_server "$binary" "${ordercast[@]:1}" --listen "127.0.0.1:$port" --database-url "$database_url"
      ;;
    bare | limit | tungstenite) run_server "$(dirname "$GENERATOR")/$name" ;;
    bun) run_server tests/bench/peers/node_modules/.bin/bun tests/bench/peers/bun.mjs ;;
    python | fastapi) run_server "$VENV/bin/python" -P "tests/bench/peers/$name.py" ;;
    *) run_server node "tests/bench/peers/$name.mjs" ;;
  esac
  options+=(--pid "$server")
  for _ in {1..300}; do
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  { echo 'the server did not start to listen: '; tail -n 1 "$out/server.log"; } | tr -d '\n' >"$WORK/errors"
  return 1
}

run_server() {
  PORT=$port NODE_ENV=production JWT_SECRET=$secret taskset -c 0 "$@" >"$out/server.log" 2>&1 &
  server=$!
}

end_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || true
  # A server that takes longer than five seconds to stop is killed.
  for _ in {1..50}; do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=''
}

stop_server() {
  local restarted
  end_server
  if restarted=$(cat "$WORK/restarted" 2>/dev/null); then kill -9 "$restarted" 2>/dev/null || true; fi
  rm -f "$WORK/restarted"
  drop_database
}

run_generator() {
  local background='' status=0
  if [ "$1${options[3]}" = stormordercast ]; then set -- "$@" --restart "$(restart)"; fi
  if [[ $database_url = postgres* ]]; then prefer_postgres & background=$!; fi
  # --foreground keeps the generator in our process group, so that it ends with us.
  RUST_BACKTRACE=0 timeout --foreground 90 taskset -c 1 "$GENERATOR" "$@" "${options[@]}" || status=$?
  if [ -n "$background" ]; then wait "$background" || true; fi
  return "$status"
}

# Prints the command with which the generator kills Ordercast (kill -9) and starts it again on the same port and database.
restart() {
  # shellcheck disable=SC2016 # $1 and $! are for the shell that runs the command
  printf 'kill -9 $1; while kill -0 $1 2>/dev/null; do sleep 0.01; done; '
  printf 'JWT_SECRET=%q setsid taskset -c 0' "$secret"
  printf ' %q' "${ordercast[@]}" --listen "127.0.0.1:$port" --database-url "$database_url"
  printf ' >>%q 2>&1 & echo $! | tee %q' "$out/server.log" "$WORK/restarted"
}

# Prints the main figure of a result.
headline() {
  # shellcheck disable=SC2016 # it is JavaScript's
  node -e '
    const line = JSON.parse(require("fs").readFileSync(0, "utf8"));
    const field = ["failed", "changes_per_s", "all_back_s", "kb_per_socket", "reports_per_s", "stalled"].find((name) => name in line);
    const value = field === "stalled" ? line.stalled.delivery_ms.p99 : line[field];
    console.log(`${line.server.padEnd(12)}${typeof value === "number" ? value.toFixed(1) : value} ${field}`);'
}

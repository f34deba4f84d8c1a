# The shell in which a document is run: a network, mounts and processes of its own, which end with it.
# shellcheck shell=bash
set -eE -o pipefail
exec </dev/null

ip link set lo up
# A folder to write in. PostgreSQL's user looks into it too.
mount -t tmpfs -o mode=755 docs "$WORK/room" 2>/dev/null || { mkdir -p "$WORK/room" && mount -t tmpfs -o mode=755 docs "$WORK/room"; }
mkdir "$WORK/room/upper" "$WORK/room/work" "$WORK/room/clone" "$WORK/room/home" "$WORK/room/servers" "$WORK/room/tmp"
# The working tree as it is; what is written over it is gone with the mount.
mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$WORK/room/upper,workdir=$WORK/room/work" "$WORK/room/clone"
export HOME=$WORK/room/home TMPDIR=$WORK/room/tmp SERVERS=$WORK/room/servers
chmod 1777 "$TMPDIR"
export DATA=$ROOT/../shared/data
printf 'silent\nshow-error\nfail-with-body\nmax-time = 20\n' >"$HOME/.curlrc"
cd "$WORK/room/clone"
# As if nothing had been built yet.
mkdir -p target && mount -t tmpfs target target
ln -sfn tests/clients/node_modules node_modules

begin() { export BLOCK=$1; echo "begin $1 $EPOCHREALTIME" >&3; exec >"$2" 2>&1; }
passed() { echo "passed $1 $EPOCHREALTIME" >&3; }

secret() { export JWT_SECRET=${JWT_SECRET:-a-secret-of-at-least-32-bytes-for-documents}; }

# A server with a secret, and what the documents call T and J: the headers of a back end that speaks for the shop.
serve() {
  secret
  ordercast "$@"
  T="Authorization: Bearer $(ordercast token --sub shop-backend --role service)" J='Content-Type: application/json'
}

# order ID [STATUS [DRIVER]]: an order of the customer c1 at the chef k1, with a driver (d1), in that status.
order() {
  curl -H "$T" -H "$J" localhost:9001/orders -d '{"id": "'"$1"'", "customer": {"id": "c1", "name": "Clara"},
    "chef": {"id": "k1", "name": "Chiara", "latitude": 47.141, "longitude": 9.521}, "delivery": {"address": "Linden Lane 12", "latitude": 47.144, "longitude": 9.533}}'
  [ -n "${2-}" ] || return 0
  status "$1" ready_for_pickup
  curl -H "$T" -H "$J" "localhost:9001/orders/$1/assign" -d '{"driver": {"id": "'"${3-d1}"'", "name": "Dino"}}'
  [ "$2" = ready_for_pickup ] || status "$1" "$2"
}

# seen DRIVER LATITUDE LONGITUDE: where a driver is. It is on the trail then.
seen() {
  curl -H "$T" -H "$J" "localhost:9001/drivers/$1/locations" -d '{"latitude": '"$2"', "longitude": '"$3"'}'
  until curl -H "$T" "localhost:9001/drivers/$1/trail" | grep -qF "$3"; do sleep 0.02; done
}

# A PostgreSQL as Debian's package starts it: port 5432, its socket, and the user postgres.
postgres() {
  . "$ROOT/tests/lib/postgres.sh"
  local data=$WORK/room/postgres
  mkdir "$data" && chown postgres "$data"
  (cd "$data" && as_postgres "$(pg_program initdb)" -D "$data/data" -U postgres --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C --no-sync
    as_postgres "$(pg_program pg_ctl)" -D "$data/data" -w -l "$data/log" -o "-c listen_addresses=localhost -c unix_socket_directories=$data" start)
  export PGHOST=$data
}

# status ID STATUS: the back end moves an order on.
status() {
  curl -H "Authorization: Bearer $(ordercast token --sub shop-backend --role service)" -H 'Content-Type: application/json' \
    -X PATCH "localhost:9001/orders/$1/status" -d '{"status": "'"$2"'"}'
}

# said TEXT: waits until a program of the block before has printed it.
said() { until grep -qF "$1" "$WORK/$((BLOCK - 1)).out"; do sleep 0.02; done; }

# Runs a command as soon as a request waits for something to happen.
when_waited_for() {
  (until curl -s localhost:9001/metrics | grep -q '^ordercast_polls_waiting [1-9]'; do sleep 0.02; done; "$@") &
}

# The plan of a run: what is measured, in which order and for how long.
# shellcheck shell=bash disable=SC2154,SC2034 # the variables are those of `run` and its other parts

all_servers="ordercast ${BEFORE:+before }limit bare tungstenite bun node nest fastify python fastapi"
rounds=${ROUNDS:-5} long=2 half=2 idle=25 stall=13
if [ -n "${QUICK:-}" ]; then rounds=${ROUNDS:-1} long=1 half=1 idle=3 stall=3; fi

# plan SECONDS SERVER DATABASE ORDERS ARGUMENT…: prints a line of the plan if the server is selected. SECONDS is the
# approximate duration, for the display of the remaining time. Only Ordercast uses DATABASE and ORDERS, the number of orders
# in the database at the start.
plan() {
  local seconds=$1
  shift
  if serves "$1"; then echo "$seconds $round $measure $*"; fi
}

# make_plan ROUND: prints one round of all selected measures.
make_plan() {
  local round=$1 measure
  for measure in $measures; do "plan_$measure"; done
}

# python-socketio needs seconds for work that others do in milliseconds, so it is measured longer.
seconds_for() {
  case $1 in python) echo $((long + 4)) ;; *) echo "$long" ;; esac
}

plan_idle() {
  local name seconds
  for name in $all_servers; do
    # Servers ping each socket once in 25 seconds. That CPU time hardly varies between rounds, so after the first round only
    # Ordercast is measured for so long.
    case $round$name in 1* | *ordercast) seconds=$idle ;; *) seconds=0 ;; esac
    plan $((8 + seconds)) "$name" sqlite 0 idle --sockets 10000 --settle 1 --idle-seconds "$seconds"
  done
  for name in ordercast limit node; do
    plan 14 "$name" sqlite 0 idle --sockets 19000 --settle 1 --idle-seconds 0
  done
}

# Node comes first: the others are also measured at half of its rate, which `measure` puts in the place of NODE_HALF.
plan_room() {
  local name listeners
  for listeners in 1000 10000; do
    for name in node ${all_servers/ node / }; do
      plan $((4 + long + 2 * half + listeners / 1000)) "$name" sqlite 0 \
        room --listeners "$listeners" --warm-up 1 --seconds "$(seconds_for "$name")" --half-seconds "$half" --rate NODE_HALF
    done
  done
}

plan_relay() {
  local name
  for name in $all_servers; do
    plan $((7 + long + half)) "$name" sqlite 0 \
      relay --drivers 2000 --watchers 3 --warm-up 2 --seconds "$(seconds_for "$name")" --half-seconds "$half"
  done
}

plan_status() {
  local database door writers
  for database in sqlite postgres; do
    for door in rest socket; do
      for writers in 1 8 64; do
        plan $((5 + long)) ordercast "$database" 0 status --writers "$writers" --door "$door" \
          --orders $((500 + writers * 70)) --seconds "$long" --fsync-dir "$WORK"
      done
    done
  done
}

plan_storm() {
  plan 10 bare - 0 storm
  plan 12 ordercast sqlite 0 storm
}

plan_stall() {
  local name seconds
  for name in $all_servers; do
    # Ordercast closes a connection that reads nothing for ten seconds. The measurement must be longer than that.
    case $name in ordercast) seconds=$stall ;; *) seconds=3 ;; esac
    plan $((4 + 2 * seconds)) "$name" sqlite 0 stall --listeners 1000 --seconds "$seconds"
  done
}

plan_growth() {
  local drivers name database orders
  # With five orders per driver and three watchers per order, these are 100 to 15,000 watching sockets, and always fewer
  # than 20,000 sockets in total.
  for drivers in 7 67 333 1000; do
    for name in ordercast limit; do
      plan $((5 + long + drivers / 150)) "$name" sqlite 0 relay --drivers "$drivers" --orders-per-driver 5 --watchers 3 \
        --warm-up 1 --seconds "$long" --half-seconds 0
    done
  done
  for orders in 1000 100000 1000000; do
    for database in sqlite postgres; do
      # Three times as long as other measures, because the first accesses after copying gigabytes are slow.
      plan $((6 + 3 * long + orders / 100000)) ordercast "$database" "$orders" status --writers 8 --door rest --orders 5000 \
        --seconds $((3 * long))
    done
  done
}

#!/usr/bin/env bash
# Records golden logs (sim/src/golden.rs): a cluster does work of every kind,
# is stopped, and the logs of one of its nodes are written to DIR.
#
#     PYTHON=target/venv/bin/python3 sim/golden/record.sh DIR
#
# To be run once for each released version of the rules, with its binaries
# (TRINE, SIM); the files are then kept as they are. Needs redis-cli, and a
# Python with cloudpickle.
set -euo pipefail
to=$(realpath "$1")
root=$(realpath "$(dirname "$0")/../..")
trine=${TRINE:-$root/target/debug/trine}
sim=${SIM:-$root/target/debug/sim}
python=${PYTHON:-python3}
data=$(mktemp -d)
redis_port=26379
admin_port=27070

redis() { redis-cli --no-auth-warning -c -p "$redis_port" "$@"; }
as_root() { redis --user root --pass secret "$@"; }

cd "$data"
"$trine" dev --nodes 3 --partitions 1 --redis-port $redis_port --nats-port 24222 --admin-port $admin_port \
    >dev.log 2>&1 &
dev=$!
trap 'kill $dev 2>/dev/null || true; wait $dev 2>/dev/null || true; rm -rf "$data"' EXIT
until redis PING 2>/dev/null | grep -q PONG; do kill -0 $dev; done
until redis SET ready yes 2>/dev/null | grep -q OK; do kill -0 $dev; done

echo "requests whose replies are known"
"$python" - $redis_port "$root/crates/database/src/run/golden.txt" <<'P'
import socket, sys
for line in open(sys.argv[2]):
    if not line.startswith(" "):
        request = line.rstrip("\n").encode().decode("unicode_escape").encode("latin-1")
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
P

echo "every kind of row"
redis >/dev/null <<'R'
SET text hello EX 1000
APPEND text " world"
SETRANGE text 20 far
INCRBY number 41
INCRBYFLOAT number 0.5
SETBIT bits 1000 1
BITFIELD bits SET u8 0 200 INCRBY i5 100 -3
PFADD guests anna bert carl
RPUSH list a b c d e f
LINSERT list BEFORE c between
LREM list 1 d
LTRIM list 1 4
HSET hash one 1 two 2 three 3
HINCRBY hash one 10
HDEL hash two
SADD set a b c d
SREM set b
SADD other c d e
SINTERSTORE both set other
ZADD sorted 1 one 2 two 3 three 2.5 more
ZINCRBY sorted 5 one
ZREMRANGEBYSCORE sorted 3 4
ZUNIONSTORE sum 2 sorted sum WEIGHTS 2 3
GEOADD cities 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
XADD stream 1-1 field value
XADD stream * field other
XGROUP CREATE stream readers 0
XREADGROUP GROUP readers one COUNT 1 STREAMS stream >
XACK stream readers 1-1
MULTI
SET first 1
INCR first
EXEC
SPOP set
COPY text copied
RENAME copied renamed
PERSIST text
SET gone soon PX 1
DEL other
EVAL "return redis.call('SET', KEYS[1], ARGV[1])" 1 script value
TRINE.ONCE client 1 INCR number
R
redis GET gone >/dev/null
value=$(head -c 100000 /dev/zero | tr '\0' x)
redis SET long "$value" >/dev/null

echo "jobs"
run() { "$trine" run --no-bar "$@" >/dev/null 2>&1 || true; }
run -k -- echo {} ::: $(seq 40)
run --retries 2 -- sh -c 'exit {}' ::: 0 3
run -- trine-has-no-such-command ::: 1
run --timeout 1 -- sleep {} ::: 100
"$trine" job submit -- sh -c 'seq 20000' ::: 1 2 >/dev/null
job=$("$trine" job submit -- sleep {} ::: 50 60)
"$trine" job cancel "$job" >/dev/null
cat >stages.toml <<'T'
name = "stages"
[stages.first]
command = "echo {}"
args = ["a", "b"]
[stages.second]
command = "date"
after = ["first"]
T
"$trine" job submit --from stages.toml >/dev/null
(echo 'cron = "* * * * * *"'; sed s/stages\"/often\"/ stages.toml) >often.toml
entry=$("$trine" job submit --from often.toml | tail -1)
until "$trine" job ls | grep -q "over.*often/second"; do kill -0 $dev; done
PYTHONPATH="$root/clients/python" "$python" - "127.0.0.1:$admin_port" <<'P'
import sys, trine
with trine.Executor(sys.argv[1]) as executor:
    assert sorted(executor.map(abs, range(-30, 0))) == list(range(1, 31))
P

echo "another leader"

paused=$(pgrep -f "trine start --data $data/trine-dev/node1 ")
kill -STOP "$paused"
until redis-cli -p $((redis_port + 10)) SET after yes 2>/dev/null | grep -q OK; do kill -0 $dev; done
kill -CONT "$paused"
redis_port=$((redis_port + 10))
redis INCR number >/dev/null || true

echo "users and tokens"
echo secret | "$trine" user add root --allow everything --password-stdin >/dev/null
echo other | "$trine" user add app --allow data --deny 'subject:secret.>' --password-stdin >/dev/null
echo third | "$trine" user rotate app --password-stdin >/dev/null
"$trine" token add backup --allow 'read:*' --expires 90d >/dev/null
"$trine" ticket >/dev/null
"$trine" user remove app >/dev/null
as_root SET last word >/dev/null

kill -INT $dev
wait $dev || true
"$sim" golden --data "$data/trine-dev/node2" --to "$to"
